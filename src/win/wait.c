/*
 * One overlapped operation, and how the loop learns that it has ended.
 *
 * The operation signals an event; a waiter of the system's thread pool watches
 * the event, but only while it is armed, that is, while the operation did not
 * end at once. Its callback sets `fired` and wakes the loop, nothing else.
 *
 * Invariants
 *   - At most one operation at a time; npi_wait_begin() starts the next one.
 *   - After `fired` was seen, or after a cancel, no callback is running or to
 *     come, so event and OVERLAPPED can be used again.
 *   - A waiter can fire for the operation before, if it is armed again within
 *     the moment in which the pool has seen the event and not yet acted (seen
 *     under Wine). So `fired` is believed only if the OVERLAPPED agrees.
 *     It has to say "pending" from the start, for Wine's TransactNamedPipe()
 * and ConnectNamedPipe() do not write that.
 *   - An event that was watched is closed only after it has fired once more
 *     (npi_wait_retire()). Wine's pool goes on for a moment with a list of
 *     handles that has the event in it, and if the number is in use again by
 *     then, it waits for somebody else's object: reads and writes in progress
 *     fail with ERROR_INVALID_HANDLE (seen about once in 100,000).
 *   - The event given to the system has its low bit set: the file may be bound
 *     to libuv's completion port, and libuv would take the OVERLAPPED for a
 *     request of its own. Wait functions get the handle as it is.
 */
#include <string.h>

#include "win.h"

#define WAIT_PENDING ((ULONG_PTR) 0x103) /* STATUS_PENDING */

static void CALLBACK wait_on_signal(PTP_CALLBACK_INSTANCE instance,
                                    PVOID context, PTP_WAIT waiter,
                                    TP_WAIT_RESULT result) {
  npi_wait* wait = context;
  (void) instance;
  (void) waiter;
  InterlockedExchange(&wait->fired, result == WAIT_TIMEOUT ? 2 : 1);
  uv_async_send(wait->wake);
}

int npi_wait_open(npi_wait* wait, uv_async_t* wake) {
  if (wait->event != NULL) return 0;
  HANDLE event = CreateEventW(NULL, TRUE, FALSE, NULL);
  if (event == NULL) return UV_ENOMEM;
  wait->waiter = CreateThreadpoolWait(wait_on_signal, wait, NULL);
  if (wait->waiter == NULL) {
    CloseHandle(event);
    return UV_ENOMEM;
  }
  wait->event = event;
  wait->wake = wake;
  return 0;
}

OVERLAPPED* npi_wait_begin(npi_wait* wait) {
  memset(&wait->overlapped, 0, sizeof wait->overlapped);
  wait->overlapped.Internal = WAIT_PENDING;
  wait->overlapped.hEvent = (HANDLE) ((ULONG_PTR) wait->event | 1);
  return &wait->overlapped;
}

/* Afterwards no callback is running or to come. */
static void wait_disarm(npi_wait* wait) {
  SetThreadpoolWait(wait->waiter, NULL, NULL);
  WaitForThreadpoolWaitCallbacks(wait->waiter, TRUE);
}

void npi_wait_arm(npi_wait* wait, unsigned timeout_ms) {
  wait->used = true;
  wait->timeout_ms = timeout_ms;
  if (timeout_ms == 0) {
    SetThreadpoolWait(wait->waiter, wait->event, NULL);
    return;
  }
  wait_disarm(wait); /* it was armed without a limit */
  LONGLONG ticks = -10000 * (LONGLONG) timeout_ms;
  FILETIME due = {.dwLowDateTime = (DWORD) (ticks & 0xFFFFFFFF),
                  .dwHighDateTime = (DWORD) ((ULONGLONG) ticks >> 32)};
  SetThreadpoolWait(wait->waiter, wait->event, &due);
}

bool npi_wait_fired(npi_wait* wait) {
  LONG fired = InterlockedExchange(&wait->fired, 0);
  if (fired == 0) return false;
  if (HasOverlappedIoCompleted(&wait->overlapped) || fired == 2) return true;
  npi_wait_arm(wait, wait->timeout_ms);
  return false;
}

bool npi_wait_over(const npi_wait* wait) {
  return WaitForSingleObject(wait->event, 0) == WAIT_OBJECT_0;
}

DWORD npi_wait_result(npi_wait* wait, HANDLE file, size_t* bytes) {
  DWORD moved;
  DWORD error = ERROR_SUCCESS;
  if (!GetOverlappedResult(file, &wait->overlapped, &moved, FALSE))
    error = GetLastError();
  *bytes = (size_t) wait->overlapped.InternalHigh;
  return error;
}

void npi_wait_cancel(npi_wait* wait, HANDLE file) {
  /* ERROR_NOT_FOUND says that the end is on its way. */
  CancelIoEx(file, &wait->overlapped);
  WaitForSingleObject(wait->event, INFINITE);
  wait_disarm(wait);
  wait->fired = 0;
}

bool npi_wait_try_cancel(npi_wait* wait, HANDLE file) {
  if (!CancelIoEx(file, &wait->overlapped) && !npi_wait_over(wait))
    return false;
  WaitForSingleObject(wait->event, INFINITE);
  wait_disarm(wait);
  wait->fired = 0;
  return true;
}

void npi_wait_close(npi_wait* wait) {
  if (wait->event == NULL) return;
  wait_disarm(wait);
  CloseThreadpoolWait(wait->waiter);
  CloseHandle(wait->event);
  wait->event = NULL;
}

bool npi_wait_retire(npi_wait* wait) {
  if (wait->event == NULL) return true;
  if (wait->used && !wait->retiring) {
    wait_disarm(wait);
    wait->fired = 0;
    wait->retiring = true;
    SetEvent(wait->event);
    SetThreadpoolWait(wait->waiter, wait->event, NULL);
    return false;
  }
  if (wait->retiring && InterlockedExchange(&wait->fired, 0) == 0) return false;
  npi_wait_close(wait);
  return true;
}
