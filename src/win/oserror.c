/*
 * Errors of the system, in the words of the contract.
 *
 * libuv has a table of its own, but it changed between versions (232 was
 * UV_EPIPE and became UV_EAGAIN for reads) and does not know 234 at all. The
 * codes that a pipe can give are therefore translated here; libuv's table has
 * the rest.
 *
 * The same number can mean different things: 109 ends a read in good order and
 * fails a write. Hence three functions.
 */
#include "win.h"

int npi_win_error(DWORD os_code) {
  switch (os_code) {
    case ERROR_SUCCESS: return 0;
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: return UV_ENOENT;
    case ERROR_ACCESS_DENIED: return UV_EACCES;
    case ERROR_PIPE_BUSY: return UV_EBUSY;
    case ERROR_SEM_TIMEOUT: return UV_ETIMEDOUT;
    case ERROR_INVALID_PARAMETER:
    case ERROR_INVALID_NAME:
    case ERROR_BAD_PATHNAME: return UV_EINVAL;
    case ERROR_FILENAME_EXCED_RANGE: return UV_ENAMETOOLONG;
    case ERROR_BROKEN_PIPE: return UV_EOF;
    case ERROR_NO_DATA: return UV_EPIPE;
    case ERROR_PIPE_NOT_CONNECTED: return UV_ECONNABORTED;
    case ERROR_PIPE_LISTENING: return UV_ENOTCONN;
    case ERROR_OPERATION_ABORTED: return UV_ECANCELED;
    case ERROR_TOO_MANY_OPEN_FILES: return UV_EMFILE;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY:
    case ERROR_NO_SYSTEM_RESOURCES:
    case ERROR_WORKING_SET_QUOTA:
    case ERROR_COMMITMENT_LIMIT:
    case ERROR_NOT_ENOUGH_QUOTA: return UV_ENOMEM;
    case ERROR_INVALID_FUNCTION:
    case ERROR_NOT_SUPPORTED:
    case ERROR_CALL_NOT_IMPLEMENTED: return UV_ENOTSUP;
    default: return uv_translate_sys_error((int) os_code);
  }
}

int npi_win_read_error(DWORD os_code) {
  if (os_code == ERROR_NO_DATA || os_code == ERROR_HANDLE_EOF) return UV_EOF;
  return npi_win_error(os_code);
}

int npi_win_write_error(DWORD os_code) {
  if (os_code == ERROR_BROKEN_PIPE) return UV_EPIPE;
  return npi_win_error(os_code);
}
