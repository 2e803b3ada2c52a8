/*
 * One thread, one mutex, one condition. The thread sleeps until the next
 * deadline and aborts the program there; arming again wakes it, so that it
 * sleeps until the new one.
 *
 * Invariants: everything in dog is read and written under its lock, except
 * that the thread's handle belongs to the main thread. Nothing in here touches
 * a loop, so a loop that hangs cannot keep it from barking.
 *
 * Trap: abort() is meant; a clean exit would run the sanitizers' leak check
 * and let its report hide ours.
 */
#include "watchdog.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <uv.h>

#define PROGRAM_SECONDS 55u
#define SECOND_NS 1000000000u

static struct {
  uv_thread_t thread;
  int running;
  uv_mutex_t lock;
  uv_cond_t changed;
  int stopping;
  const char* test;
  const char* step;
  uint64_t program_end; /* uv_hrtime() */
  uint64_t test_end;    /* 0: no test is running */
} dog;

static uint64_t dog_deadline(void) {
  if (dog.test_end != 0 && dog.test_end < dog.program_end) return dog.test_end;
  return dog.program_end;
}

static void dog_bark(void) {
  fprintf(stderr, "\nwatchdog: test %s hangs; step: %s\n",
          dog.test ? dog.test : "(none)", dog.step ? dog.step : "(none)");
  fflush(stderr);
  abort();
}

static void dog_watch(void* arg) {
  (void) arg;
  uv_mutex_lock(&dog.lock);
  while (!dog.stopping) {
    uint64_t now = uv_hrtime();
    uint64_t end = dog_deadline();
    if (now >= end) dog_bark();
    uv_cond_timedwait(&dog.changed, &dog.lock, end - now);
  }
  uv_mutex_unlock(&dog.lock);
}

void watchdog_start(void) {
  if (dog.running) return;
  unsigned long seconds = PROGRAM_SECONDS;
  char text[16];
  size_t size = sizeof text;
  if (uv_os_getenv("NPIPE_TEST_SECONDS", text, &size) == 0)
    seconds = strtoul(text, NULL, 10);
  dog.program_end = uv_hrtime() + (uint64_t) seconds * SECOND_NS;
  dog.stopping = 0;
  if (uv_mutex_init(&dog.lock) != 0 || uv_cond_init(&dog.changed) != 0 ||
      uv_thread_create(&dog.thread, dog_watch, NULL) != 0) {
    fprintf(stderr, "the watchdog cannot start\n");
    abort();
  }
  dog.running = 1;
}

void watchdog_stop(void) {
  if (!dog.running) return;
  uv_mutex_lock(&dog.lock);
  dog.stopping = 1;
  uv_cond_signal(&dog.changed);
  uv_mutex_unlock(&dog.lock);
  uv_thread_join(&dog.thread);
  uv_cond_destroy(&dog.changed);
  uv_mutex_destroy(&dog.lock);
  dog.running = 0;
}

void watchdog_arm(const char* name, unsigned seconds) {
  watchdog_start();
  uv_mutex_lock(&dog.lock);
  dog.test = name;
  dog.step = NULL;
  dog.test_end = name ? uv_hrtime() + (uint64_t) seconds * SECOND_NS : 0;
  uv_cond_signal(&dog.changed);
  uv_mutex_unlock(&dog.lock);
}

void watchdog_step(const char* step) {
  if (!dog.running) return;
  uv_mutex_lock(&dog.lock);
  dog.step = step;
  uv_mutex_unlock(&dog.lock);
}
