/*
 * Errors in words.
 *
 * Codes are libuv's and carry the whole decision a program has to make; the
 * text beside them is for people. The last failure of each thread is kept, so
 * that a call which makes no object (npipe_server_create) can still say which
 * file was in the way. The text is cut at the end of its buffer, never longer.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"

static NPI_THREAD_LOCAL npipe_error error_last;

const npipe_error* npipe_last_error(void) {
  return &error_last;
}

int npi_fail(int code, int os_code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  error_last.code = code;
  error_last.os_code = os_code;
  int length = vsnprintf(error_last.text, sizeof error_last.text, format, args);
  va_end(args);
  if (length < 0) error_last.text[0] = '\0';
  return code;
}

void npi_tell(int status) {
  if (status < 0) npi_fail(status, 0, "%s", npipe_strerror(status));
}

void npi_fail_again(const npipe_error* error) {
  error_last = *error;
}

const char* npipe_strerror(int code) {
  switch (code) {
    case 0: return "no error";
    case UV_ENOENT: return "no pipe of that name";
    case UV_EBUSY: return "the pipe is busy";
    case UV_ETIMEDOUT: return "the wait timed out";
    case UV_EACCES: return "permission denied";
    case UV_EADDRINUSE: return "the name has a live server";
    case UV_EEXIST: return "a foreign file stands where the pipe would be";
    case UV_EINVAL: return "invalid argument";
    case UV_ENAMETOOLONG: return "the name is too long";
    case UV_EMSGSIZE: return "the message is longer than allowed";
    case UV_EOF: return "the peer has closed the pipe";
    case UV_EPIPE: return "the peer has closed the pipe";
    case UV_ECONNABORTED: return "the server has disconnected the pipe";
    case UV_ENOTCONN: return "the pipe is not connected yet";
    case UV_ECANCELED: return "the operation was cancelled";
    case UV_EPROTO: return "the peer broke the protocol";
    case UV_EMFILE: return "out of descriptors";
    case UV_ENOTSUP: return "this pipe or system cannot do that";
    default: return uv_strerror(code);
  }
}

unsigned npipe_version(void) {
  return NPIPE_VERSION_MAJOR << 16 | NPIPE_VERSION_MINOR << 8 |
         NPIPE_VERSION_PATCH;
}
