/*
 * raw_peer NAME WHAT: one scene with npipe, played in plain Win32 calls.
 *
 * As the client of \\.\pipe\NAME:
 *   wait        WaitNamedPipe for an instance, then a question and its answer
 *   transact    TransactNamedPipe: a question and its answer
 *   peek        says "connected"; PeekNamedPipe until "first" and "two" are
 *               there, looks at both, reads both
 *   flush       writes, says "written", FlushFileBuffers, says "flushed"
 *   thrown-out  says "connected" and reads until it is disconnected
 * As its server, with one instance:
 *   ask         TransactNamedPipe: a question to the client and its answer
 *   throw-out   writes and flushes, writes more and disconnects, says "thrown
 *               out", and takes the next client with its question
 *
 * The question is "question", the answer "answer". Exit code 0, or 1 with a
 * reason.
 */
#include "raw_common.h"

#define RAW_WAIT_MS 20000u
#define RAW_STEP_MS 5u

static char path[256];

static void say(const char* word) {
  printf("%s\n", word);
  fflush(stdout);
}

static void expect(const char* what, const char* data, DWORD size,
                   const char* wanted) {
  if (size == strlen(wanted) && memcmp(data, wanted, size) == 0) return;
  SetLastError(ERROR_INVALID_DATA);
  raw_fail(what);
}

static void put(HANDLE pipe, const char* text) {
  DWORD written = 0;
  if (!WriteFile(pipe, text, (DWORD) strlen(text), &written, NULL) ||
      written != strlen(text))
    raw_fail("WriteFile");
}

static void get(HANDLE pipe, const char* wanted) {
  char data[64];
  DWORD size = 0;
  if (!ReadFile(pipe, data, sizeof data, &size, NULL)) raw_fail("ReadFile");
  expect("the message is not the one", data, size, wanted);
}

static void ask(HANDLE pipe) {
  char data[64];
  DWORD size = 0;
  char question[] = "question";
  if (!TransactNamedPipe(pipe, question, (DWORD) strlen(question), data,
                         sizeof data, &size, NULL))
    raw_fail("TransactNamedPipe");
  expect("the answer is not the one", data, size, "answer");
}

/* ---- the client */

static HANDLE client_open(void) {
  DWORD mode = PIPE_READMODE_MESSAGE;
  HANDLE pipe = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL,
                            OPEN_EXISTING, 0, NULL);
  if (pipe == INVALID_HANDLE_VALUE) raw_fail("CreateFile");
  if (!SetNamedPipeHandleState(pipe, &mode, NULL, NULL))
    raw_fail("SetNamedPipeHandleState");
  return pipe;
}

static void client_wait(void) {
  HANDLE pipe;
  if (CreateFileA(path, GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL) !=
      INVALID_HANDLE_VALUE)
    raw_fail("the pipe is not busy");
  if (GetLastError() != ERROR_PIPE_BUSY) raw_fail("CreateFile");
  say("waiting");
  if (!WaitNamedPipeA(path, RAW_WAIT_MS)) raw_fail("WaitNamedPipe");
  pipe = client_open();
  put(pipe, "question");
  get(pipe, "answer");
  CloseHandle(pipe);
}

static void client_peek(void) {
  HANDLE pipe = client_open();
  char data[64];
  DWORD size = 0;
  DWORD available = 0;
  DWORD left = 0;
  say("connected");
  while (available < 8) {
    if (!PeekNamedPipe(pipe, data, 3, &size, &available, &left))
      raw_fail("PeekNamedPipe");
    Sleep(RAW_STEP_MS);
  }
  expect("what was peeked at is not the message", data, size, "fir");
  if (available != 8 || left != 2) raw_fail("PeekNamedPipe counts wrongly");
  get(pipe, "first");
  get(pipe, "two");
  CloseHandle(pipe);
}

static void client_flush(void) {
  HANDLE pipe = client_open();
  put(pipe, "question");
  say("written");
  if (!FlushFileBuffers(pipe)) raw_fail("FlushFileBuffers");
  say("flushed");
  get(pipe, "answer");
  CloseHandle(pipe);
}

static void client_thrown_out(void) {
  HANDLE pipe = client_open();
  char data[64];
  DWORD size = 0;
  say("connected");
  if (ReadFile(pipe, data, sizeof data, &size, NULL))
    raw_fail("it was not thrown out");
  if (GetLastError() != ERROR_PIPE_NOT_CONNECTED) raw_fail("ReadFile");
  if (WriteFile(pipe, data, 1, &size, NULL)) raw_fail("it could write");
  if (GetLastError() != ERROR_PIPE_NOT_CONNECTED) raw_fail("WriteFile");
  CloseHandle(pipe);
}

/* ---- the server */

static HANDLE server_create(void) {
  HANDLE pipe =
      CreateNamedPipeA(path, PIPE_ACCESS_DUPLEX,
                       PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_WAIT, 1,
                       4096, 4096, 0, NULL);
  if (pipe == INVALID_HANDLE_VALUE) raw_fail("CreateNamedPipe");
  say("ready");
  return pipe;
}

static void server_listen(HANDLE pipe) {
  if (!ConnectNamedPipe(pipe, NULL) && GetLastError() != ERROR_PIPE_CONNECTED)
    raw_fail("ConnectNamedPipe");
}

static void server_ask(void) {
  HANDLE pipe = server_create();
  server_listen(pipe);
  ask(pipe);
  CloseHandle(pipe);
}

/* The flush ends when the client has read; what is written behind it goes. */
static void server_throw_out(void) {
  HANDLE pipe = server_create();
  server_listen(pipe);
  put(pipe, "first");
  if (!FlushFileBuffers(pipe)) raw_fail("FlushFileBuffers");
  put(pipe, "never read");
  if (!DisconnectNamedPipe(pipe)) raw_fail("DisconnectNamedPipe");
  say("thrown out");
  server_listen(pipe);
  get(pipe, "question");
  put(pipe, "answer");
  if (!FlushFileBuffers(pipe)) raw_fail("FlushFileBuffers");
  CloseHandle(pipe);
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    void (*play)(void);
  } scenes[] = {
      {"wait", client_wait},   {"peek", client_peek},
      {"flush", client_flush}, {"thrown-out", client_thrown_out},
      {"ask", server_ask},     {"throw-out", server_throw_out},
  };
  if (argc != 3) {
    fprintf(stderr, "usage: raw_peer NAME WHAT\n");
    return 1;
  }
  raw_begin("raw_peer");
  snprintf(path, sizeof path, "\\\\.\\pipe\\%s", argv[1]);
  if (strcmp(argv[2], "transact") == 0) {
    ask(client_open());
    return 0;
  }
  for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
    if (strcmp(argv[2], scenes[i].name) != 0) continue;
    scenes[i].play();
    return 0;
  }
  SetLastError(ERROR_INVALID_PARAMETER);
  raw_fail("WHAT is no scene");
  return 1;
}
