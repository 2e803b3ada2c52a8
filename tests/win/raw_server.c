/*
 * raw_server NAME MODE INSTANCES CLIENTS [HOLD_MS [MESSAGES]]: the server of
 * every Win32 tutorial, without npipe and without libuv, to play the far end of
 * ours.
 *
 *   NAME       after \\.\pipe\
 *   MODE       message or byte
 *   INSTANCES  1: one instance, used again for each client (ConnectNamedPipe,
 *              DisconnectNamedPipe), so that others find it busy.
 *              More, up to 255: a thread for each client, and a new instance as
 *              soon as one is taken.
 *   CLIENTS    it ends with 0 when that many have been served
 *   HOLD_MS    how long it sleeps before it reads from a client
 *   MESSAGES   it disconnects a client after that many; 0 = when it has left
 *
 * It sends back each message (MODE byte: whatever has arrived) and checks that
 * each message holds what raw_common.h says. "ready" on standard output tells
 * that the name exists. Exit code 0, or 1 with a reason.
 */
#include "raw_common.h"

#define BUFFER_BYTES 4096u /* read at a time */
#define QUOTA_BYTES 65536u

static DWORD hold_ms;
static unsigned long messages_max;
static int message_mode;

typedef struct request {
  unsigned char* data;
  size_t size;
  size_t capacity;
} request;

/* Reads one message, whatever its size; or, in byte mode, what is there.
 * Returns 0 when the client has gone. */
static int request_read(HANDLE pipe, request* r) {
  r->size = 0;
  for (;;) {
    DWORD got = 0;
    if (r->capacity - r->size < BUFFER_BYTES) {
      size_t capacity = 2 * r->capacity + BUFFER_BYTES;
      unsigned char* grown = realloc(r->data, capacity);
      if (grown == NULL || capacity > RAW_MESSAGE_MAX_BYTES)
        raw_fail("a message is too long");
      r->data = grown;
      r->capacity = capacity;
    }
    if (ReadFile(pipe, r->data + r->size, BUFFER_BYTES, &got, NULL)) {
      r->size += got;
      return 1;
    }
    switch (GetLastError()) {
      case ERROR_MORE_DATA: r->size += got; break;
      case ERROR_BROKEN_PIPE:
        if (r->size > 0) raw_fail("the client left within a message");
        return 0;
      default: raw_fail("ReadFile");
    }
  }
}

/* Whether the client still reads is its own affair: one that has written and
 * left gets no answer. Returns 0 if it has left. */
static int request_answer(HANDLE pipe, const request* r) {
  DWORD written = 0;
  if (WriteFile(pipe, r->data, (DWORD) r->size, &written, NULL)) {
    if (written != r->size) raw_fail("WriteFile wrote too little");
    return 1;
  }
  if (GetLastError() != ERROR_NO_DATA && GetLastError() != ERROR_BROKEN_PIPE)
    raw_fail("WriteFile");
  return 0;
}

static void client_serve(HANDLE pipe) {
  request r = {NULL, 0, 0};
  unsigned long messages = 0;
  if (hold_ms > 0) Sleep(hold_ms);
  while (request_read(pipe, &r)) {
    if (message_mode && !raw_is_right(r.data, r.size))
      raw_fail("a message is not what was sent");
    if (!request_answer(pipe, &r)) break;
    if (++messages == messages_max) break;
  }
  free(r.data);
  FlushFileBuffers(pipe); /* fails if the client has gone, and may */
  DisconnectNamedPipe(pipe);
}

static DWORD WINAPI client_thread(LPVOID arg) {
  HANDLE pipe = arg;
  client_serve(pipe);
  CloseHandle(pipe);
  return 0;
}

static HANDLE instance_create(const char* path, DWORD instances) {
  DWORD mode = PIPE_WAIT;
  HANDLE pipe;
  if (message_mode) mode |= PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE;
  pipe = CreateNamedPipeA(path, PIPE_ACCESS_DUPLEX, mode, instances,
                          QUOTA_BYTES, QUOTA_BYTES, 0, NULL);
  if (pipe == INVALID_HANDLE_VALUE) raw_fail("CreateNamedPipe");
  return pipe;
}

/* A client that was quicker than us is a client; so is one that has already
 * left again, whose messages can still be read. */
static void instance_connect(HANDLE pipe) {
  if (ConnectNamedPipe(pipe, NULL)) return;
  if (GetLastError() == ERROR_PIPE_CONNECTED) return;
  if (GetLastError() == ERROR_NO_DATA) return;
  raw_fail("ConnectNamedPipe");
}

static void serve_in_turn(HANDLE pipe, unsigned long clients) {
  for (unsigned long i = 0; i < clients; i++) {
    instance_connect(pipe);
    client_serve(pipe);
  }
  CloseHandle(pipe);
}

static void serve_in_threads(const char* path, DWORD instances, HANDLE pipe,
                             unsigned long clients) {
  HANDLE* threads = calloc(clients + 1, sizeof *threads);
  if (threads == NULL) raw_fail("out of memory");
  for (unsigned long i = 0; i < clients; i++) {
    HANDLE taken = pipe;
    instance_connect(taken);
    if (i + 1 < clients) pipe = instance_create(path, instances);
    threads[i] = CreateThread(NULL, 0, client_thread, taken, 0, NULL);
    if (threads[i] == NULL) raw_fail("CreateThread");
  }
  for (unsigned long i = 0; i < clients; i++) {
    WaitForSingleObject(threads[i], INFINITE);
    CloseHandle(threads[i]);
  }
  free(threads);
}

int main(int argc, char** argv) {
  char path[256];
  unsigned long clients;
  DWORD instances;
  HANDLE pipe;
  if (argc < 5 || argc > 7) {
    fprintf(stderr,
            "usage: raw_server NAME message|byte INSTANCES CLIENTS"
            " [HOLD_MS [MESSAGES]]\n");
    return 1;
  }
  raw_begin("raw_server");
  snprintf(path, sizeof path, "\\\\.\\pipe\\%s", argv[1]);
  message_mode = strcmp(argv[2], "message") == 0;
  instances = (DWORD) raw_number(argv[3], PIPE_UNLIMITED_INSTANCES);
  clients = raw_number(argv[4], 1000);
  if (argc > 5) hold_ms = (DWORD) raw_number(argv[5], RAW_WATCHDOG_MS);
  if (argc > 6) messages_max = raw_number(argv[6], 100000);

  pipe = instance_create(path, instances);
  printf("ready\n");
  fflush(stdout);
  if (instances == 1)
    serve_in_turn(pipe, clients);
  else
    serve_in_threads(path, instances, pipe, clients);
  return 0;
}
