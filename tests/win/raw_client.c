/*
 * raw_client NAME MODE WAIT_MS ROUNDS SIZE...: the client of every Win32
 * tutorial, without npipe and without libuv, to play the far end of ours.
 *
 *   NAME     after \\.\pipe\
 *   MODE     message or byte
 *   WAIT_MS  how long it waits at most while the pipe is busy
 *   ROUNDS   how often it sends the messages of all the SIZEs, in their order;
 *            0: it sends them once, reads nothing and leaves at once
 *
 * After each message it reads the answer, in pieces of 512 bytes, and checks
 * that it is the message. MODE byte: as many bytes as it sent. Exit code 0, or
 * 1 with a reason.
 */
#include "raw_common.h"

#define PIECE_BYTES 512u

static int message_mode;

/* Writes all of it, as one message. */
static void message_write(HANDLE pipe, const unsigned char* data, size_t size) {
  DWORD written = 0;
  if (!WriteFile(pipe, data, (DWORD) size, &written, NULL))
    raw_fail("WriteFile");
  if (written != size) raw_fail("WriteFile wrote less than it was given");
}

static HANDLE pipe_open(const char* path, DWORD wait_ms) {
  DWORD mode = PIPE_READMODE_MESSAGE;
  HANDLE pipe;
  for (;;) {
    pipe = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL,
                       OPEN_EXISTING, 0, NULL);
    if (pipe != INVALID_HANDLE_VALUE) break;
    if (GetLastError() != ERROR_PIPE_BUSY) raw_fail("CreateFile");
    if (!WaitNamedPipeA(path, wait_ms)) raw_fail("WaitNamedPipe");
  }
  if (message_mode && !SetNamedPipeHandleState(pipe, &mode, NULL, NULL))
    raw_fail("SetNamedPipeHandleState");
  return pipe;
}

/* Reads one message of at most capacity bytes. */
static size_t answer_read(HANDLE pipe, unsigned char* data, size_t capacity) {
  size_t size = 0;
  for (;;) {
    unsigned char piece[PIECE_BYTES];
    DWORD got = 0;
    int whole = ReadFile(pipe, piece, sizeof piece, &got, NULL);
    if (!whole && GetLastError() != ERROR_MORE_DATA) raw_fail("ReadFile");
    if (got > capacity - size) raw_fail("the answer is too long");
    memcpy(data + size, piece, got);
    size += got;
    if (whole) return size;
  }
}

/* Reads size bytes of a stream. */
static size_t stream_read(HANDLE pipe, unsigned char* data, size_t size) {
  size_t sum = 0;
  while (sum < size) {
    size_t rest = size - sum;
    DWORD got = 0;
    DWORD wanted = rest < PIECE_BYTES ? (DWORD) rest : PIECE_BYTES;
    if (!ReadFile(pipe, data + sum, wanted, &got, NULL)) raw_fail("ReadFile");
    sum += got;
  }
  return sum;
}

static void exchange(HANDLE pipe, unsigned char* data, size_t size) {
  size_t got;
  raw_fill(data, size);
  message_write(pipe, data, size);
  memset(data, 0, size);
  got = message_mode ? answer_read(pipe, data, RAW_MESSAGE_MAX_BYTES)
                     : stream_read(pipe, data, size);
  if (got != size) {
    fprintf(stderr, "raw_client: sent %lu bytes, got %lu\n",
            (unsigned long) size, (unsigned long) got);
    ExitProcess(1);
  }
  if (!raw_is_right(data, size)) raw_fail("the answer is not what was sent");
}

int main(int argc, char** argv) {
  char path[256];
  unsigned char* data;
  unsigned long rounds;
  HANDLE pipe;
  if (argc < 6) {
    fprintf(stderr,
            "usage: raw_client NAME message|byte WAIT_MS ROUNDS SIZE...\n");
    return 1;
  }
  raw_begin("raw_client");
  snprintf(path, sizeof path, "\\\\.\\pipe\\%s", argv[1]);
  message_mode = strcmp(argv[2], "message") == 0;
  rounds = raw_number(argv[4], 100000);
  data = malloc(RAW_MESSAGE_MAX_BYTES);
  if (data == NULL) raw_fail("out of memory");

  pipe = pipe_open(path, (DWORD) raw_number(argv[3], RAW_WATCHDOG_MS));
  for (unsigned long round = 0; round < rounds; round++)
    for (int i = 5; i < argc; i++)
      exchange(pipe, data, raw_number(argv[i], RAW_MESSAGE_MAX_BYTES));
  for (int i = 5; rounds == 0 && i < argc; i++) {
    size_t size = raw_number(argv[i], RAW_MESSAGE_MAX_BYTES);
    raw_fill(data, size);
    message_write(pipe, data, size);
  }
  CloseHandle(pipe);
  free(data);
  return 0;
}
