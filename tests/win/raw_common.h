/*
 * What the raw Win32 programs share: how they fail, and how they look at
 * numbers in their arguments. Nothing here, and nothing in the programs, comes
 * from npipe or libuv.
 */
#ifndef RAW_COMMON_H
#define RAW_COMMON_H

#include <windows.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raw_pattern.h"

#define RAW_WATCHDOG_MS 90000u
#define RAW_MESSAGE_MAX_BYTES 0x1000000u

static const char* raw_program = "raw";

/* Prints what went wrong with GetLastError() and ends the process. */
static void raw_fail(const char* what) {
  DWORD error = GetLastError();
  fprintf(stderr, "%s: %s (error %lu)\n", raw_program, what,
          (unsigned long) error);
  fflush(stderr);
  ExitProcess(1);
}

static DWORD WINAPI raw_watchdog(LPVOID arg) {
  (void) arg;
  Sleep(RAW_WATCHDOG_MS);
  SetLastError(ERROR_SEM_TIMEOUT);
  raw_fail("took too long");
  return 1;
}

static void raw_begin(const char* program) {
  HANDLE thread;
  raw_program = program;
  thread = CreateThread(NULL, 0, raw_watchdog, NULL, 0, NULL);
  if (thread == NULL) raw_fail("CreateThread");
  CloseHandle(thread);
}

/* A number from the arguments, at most max. */
static inline unsigned long raw_number(const char* text, unsigned long max) {
  char* end;
  unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end != '\0' || value > max) {
    SetLastError(ERROR_INVALID_PARAMETER);
    raw_fail("a number in the arguments is wrong");
  }
  return value;
}

#endif /* RAW_COMMON_H */
