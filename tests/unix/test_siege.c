/*
 * Crowds, other users and foreign files: what stands around a pipe of npipe's.
 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* chmod() of strict C */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unix/raw_peer.h"

#define CHILD_NS UINT64_C(3000000000)
#define CHILD_CPU_MS_MAX 800

/* ------------------------------------------------- crowds */

static void sg_silent_crowd(void** state) {
  enum { CROWD = 300 };
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* early = end_open(w, NULL);
  test_end* early_server = host_accept(host);
  raw_peer crowd[CROWD];
  for (int i = 0; i < CROWD; i++) {
    crowd[i] = raw_connect(w);
    raw_turn(&crowd[i]);
  }
  test_end* late = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_settle(w);
  CHECK_SIZE(0, late->connects);
  send_text(early, "still here");
  EXPECT_TEXT(early_server, 64, "still here", 0);
  for (int i = 0; i < CROWD; i++) raw_close(&crowd[i]);
  CHECK_STATUS(0, end_outcome(late));
  test_end* late_server = host_accept(host);
  send_text(late, "served");
  EXPECT_TEXT(late_server, 64, "served", 0);
  CHECK_SIZE(2, host->arrivals);
}

/* A few silent ones are in nobody's way, and go by themselves in 10 s. */
static void sg_silent_are_dropped(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_MESSAGE);
  raw_peer silent = raw_connect(w);
  uint64_t begin = uv_hrtime();
  raw_turn(&silent);
  end_open(w, NULL);
  CHECK(uv_hrtime() - begin < UINT64_C(5000000000));
  raw_expect_end(&silent);
  uint64_t ms = (uv_hrtime() - begin) / 1000000;
  CHECK(ms >= 9900 && ms < 15000);
  raw_close(&silent);
}

/* ------------------------------------------------- out of descriptors */

static void echo_done(test_task* task) {
  if (task->status != 0) end_close(task->end);
}

static void echo_piece(test_stream* stream) {
  if (stream->ends) {
    end_close(stream->end);
    return;
  }
  const test_message* last = &stream->messages[stream->count - 1];
  write_begin(stream->end, stream->bytes + last->start, last->size)->hook =
      echo_done;
}

static void echo_client(test_host* host) {
  test_end* end = host_take(host);
  if (end) stream_begin(end, 0)->hook = echo_piece;
}

static void on_tick(uv_timer_t* timer) {
  (void) timer; /* only wakes the loop */
}

static long cpu_ms(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000L +
         (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000L;
}

/* The forked server: two descriptors are left for clients. Its exit code. */
static int poor_server(const char* name) {
  for (int fd = 3; fd < 256; fd++) close(fd);
  world* w = world_new();
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  test_host* host;
  if (host_try(w, name, &options, &host) != 0) return 2;
  host->hook = echo_client;
  uv_timer_t tick;
  uv_timer_init(&w->loop, &tick);
  uv_timer_start(&tick, on_tick, 20, 20);
  uv_pipe_t pipe; /* the first one makes libuv take a descriptor in reserve */
  uv_pipe_init(&w->loop, &pipe, 0);
  uv_close((uv_handle_t*) &pipe, NULL);
  uv_run(&w->loop, UV_RUN_NOWAIT);
  int one = dup(0);
  int two = dup(0); /* the lowest that are free; there may be a gap */
  close(one);
  close(two);
  struct rlimit limit = {.rlim_cur = (rlim_t) two + 1,
                         .rlim_max = (rlim_t) two + 1};
  if (two < 0 || setrlimit(RLIMIT_NOFILE, &limit) != 0) return 3;
  long before = cpu_ms();
  uint64_t end = uv_hrtime() + CHILD_NS;
  while (uv_hrtime() < end) uv_run(&w->loop, UV_RUN_ONCE);
  if (host->failures == 0 || host->last_failure != UV_EMFILE) return 4;
  if (cpu_ms() - before > CHILD_CPU_MS_MAX) return 5;
  return host->arrivals == 3 ? 0 : 6;
}

static test_end* open_when_there(world* w) {
  for (;;) {
    test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
    int status = end_outcome(end);
    if (status == 0) return end;
    CHECK_STATUS(UV_ENOENT, status);
    end_shut(end);
    world_run_for(w, 20);
  }
}

static void sg_out_of_descriptors(void** state) {
  world* w = *state;
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) _exit(poor_server(w->name));
  test_end* first = open_when_there(w);
  test_end* second = end_open(w, NULL);
  test_end* third = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_run_for(w, 500);
  CHECK_SIZE(0, third->connects);
  send_text(second, "it goes on");
  EXPECT_TEXT(second, 64, "it goes on", 0);
  end_shut(first);
  CHECK_STATUS(0, end_outcome(third));
  send_text(third, "served");
  EXPECT_TEXT(third, 64, "served", 0);
  int status = -1;
  pid_t gone = 0;
  RAW_UNTIL((&(raw_peer){.world = w, .fd = -1}),
            (gone = waitpid(pid, &status, WNOHANG)) != 0);
  CHECK(gone == pid && WIFEXITED(status));
  CHECK_STATUS(0, WEXITSTATUS(status));
  char path[RAW_PATH_BYTES]; /* it has ended without closing */
  raw_path(w, path);
  unlink(path);
  raw_lock_path(w, path);
  unlink(path);
}

/* ------------------------------------------------- other users */

static uid_t other_user(void) {
  unsigned uid = 0;
  unsigned gid = 0;
  if (!os_other_user(&uid, &gid))
    SKIP_BECAUSE("not root", "it cannot be another user");
  return (uid_t) uid;
}

static void sg_client_of_another_user(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  uid_t other = other_user();
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  raw_path(w, path);
  CHECK_STATUS(-EACCES, raw_connect_fd(path, other)); /* the file's mode */
  CHECK(chmod(path, 0666) == 0);
  raw_peer raw = raw_of(w, raw_connect_fd(path, other));
  raw_hello hello = raw_good_hello(w);
  raw_send_hello(&raw, &hello);
  CHECK_SIZE(5, raw_refusal(&raw)); /* the server's look at the user */
  raw_close(&raw);
  CHECK_SIZE(0, host->arrivals);
}

static void sg_plain_client_of_another_user(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  uid_t other = other_user();
  raw_path(w, path);
  npipe_server_options options = {.plain_path = path};
  test_host* host = host_open(w, &options);
  CHECK_STATUS(-EACCES, raw_connect_fd(path, other));
  CHECK(chmod(path, 0666) == 0);
  raw_peer raw = raw_of(w, raw_connect_fd(path, other));
  raw_expect_end(&raw);
  raw_close(&raw);
  CHECK_SIZE(0, host->arrivals);
}

static void sg_everyone_may(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  uid_t other = other_user();
  npipe_server_options options = {.allow = NPIPE_ALLOW_EVERYONE};
  host_open(w, &options);
  raw_path(w, path);
  raw_peer raw = raw_of(w, raw_connect_fd(path, other));
  raw_hello hello = raw_good_hello(w);
  raw_send_hello(&raw, &hello);
  raw_frame welcome = raw_next(&raw);
  CHECK_SIZE(RAW_WELCOME, welcome.type);
  raw_frame_free(&welcome);
  raw_close(&raw);
}

static void sg_server_of_another_user(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  uid_t other = other_user();
  raw_path(w, path);
  raw_peer listener = raw_of(w, raw_listen_fd(path, other));
  test_end* wary = end_connect(w, w->name, CONNECT_MS, NULL);
  raw_peer raw = raw_accept(w, listener.fd);
  RAW_UNTIL(&raw, wary->connects > 0);
  CHECK_STATUS(UV_EACCES, wary->connect_status);
  raw_expect_end(&raw); /* and was told nothing */
  raw_close(&raw);
  npipe_client_options options = {.any_server = 1};
  test_end* end = end_connect(w, w->name, CONNECT_MS, &options);
  raw = raw_accept_open(w, listener.fd, NPIPE_MESSAGE, 65536);
  RAW_UNTIL(&raw, end->connects > 0);
  CHECK_STATUS(0, end->connect_status);
  raw_close(&raw);
  raw_close(&listener);
  unlink(path);
}

/* ------------------------------------------------- directories and files */

static void sg_directory_of_everybody(void** state) {
  world* w = *state;
  static const mode_t modes[] = {0777, 0775, 01777};
  for (size_t i = 0; i < HARNESS_COUNT(modes); i++) {
    test_host* host = NULL;
    CHECK(chmod(raw_directory(), modes[i]) == 0);
    int server = host_try(w, w->name, NULL, &host);
    test_end* end = NULL;
    npipe_client_options options = {.scope = NPIPE_SCOPE_USER};
    int call = end_try(w, w->name, CONNECT_MS, &options, &end);
    CHECK(chmod(raw_directory(), 0755) == 0);
    CHECK_STATUS(UV_EACCES, server);
    CHECK_STATUS(0, call);
    CHECK_STATUS(UV_EACCES, end_outcome(end));
    end_shut(end);
  }
}

static void foreign_file(world* w, const char* path) {
  static const char text[] = "somebody's letters";
  char found[64] = {0};
  FILE* file = fopen(path, "w");
  CHECK(file != NULL);
  fputs(text, file);
  fclose(file);
  test_host* host;
  CHECK_STATUS(UV_EEXIST, host_try(w, w->name, NULL, &host));
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, CONNECT_MS, NULL));
  file = fopen(path, "r");
  CHECK(file != NULL);
  CHECK(fgets(found, sizeof found, file) != NULL);
  fclose(file);
  CHECK(strcmp(found, text) == 0);
  CHECK(unlink(path) == 0);
}

static void sg_foreign_files(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  foreign_file(w, path);
  CHECK(mkdir(path, 0700) == 0);
  test_host* host;
  CHECK_STATUS(UV_EEXIST, host_try(w, w->name, NULL, &host));
  CHECK(rmdir(path) == 0);
  raw_lock_path(w, path);
  foreign_file(w, path);
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(sg_silent_crowd),
      TEST(sg_silent_are_dropped),
      TEST(sg_out_of_descriptors),
      TEST(sg_client_of_another_user),
      TEST(sg_plain_client_of_another_user),
      TEST(sg_everyone_may),
      TEST(sg_server_of_another_user),
      TEST(sg_directory_of_everybody),
      TEST(sg_foreign_files),
  };
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 2048) {
    files.rlim_cur = files.rlim_max < 2048 ? files.rlim_max : 2048;
    setrlimit(RLIMIT_NOFILE, &files); /* the crowd needs 600 */
  }
  return raw_main(argc, argv, "siege", tests, HARNESS_COUNT(tests));
}
