/*
 * What the files of src/win know of each other: a connection and a server on
 * the kernel's named pipes, and small helpers around the system's calls.
 *
 * Two rules hold in every file. An overlapped call of ours on a pipe that
 * libuv has adopted carries an event with the low bit set, so that its
 * completion never reaches libuv's completion port; npi_wait_begin() sees to
 * it. And threads of the system's pool do nothing but set a flag and wake the
 * loop; all else is done by the loop's thread.
 */
#ifndef NPI_WIN_WIN_H
#define NPI_WIN_WIN_H

#include "backend.h"

#include <windows.h>

/* \\?\pipe\NAME and the final NUL, in UTF-16 units. Behind this prefix Win32
 * takes NAME as it is; behind \\.\ it would cut trailing dots and blanks off,
 * and "." and ".." would mean something (NM4). */
#define NPI_PATH_PREFIX_UNITS 9
#define NPI_PATH_UNITS (NPI_PATH_PREFIX_UNITS + NPI_NAME_UNITS_MAX + 1)

typedef struct npi_win_conn npi_win_conn;
typedef struct npi_win_server npi_win_server;

/* ---- oserror.c: GetLastError() to UV_E*, independent of libuv's version */
int npi_win_error(DWORD os_code);
/* The same for a read and for a write, where a broken pipe has its own
 * meaning (UV_EOF, UV_EPIPE). */
int npi_win_read_error(DWORD os_code);
int npi_win_write_error(DWORD os_code);

/* ---- wait.c: one overlapped operation at a time, and how the loop learns of
 * its end */
typedef struct npi_wait {
  OVERLAPPED overlapped;
  HANDLE event;    /* manual reset; NULL: not open */
  PTP_WAIT waiter; /* of the system's pool */
  uv_async_t* wake;
  volatile LONG fired; /* 1: the event; 2: the time was over */
  unsigned timeout_ms; /* it was armed with */
  bool used;           /* it was armed at least once */
  bool retiring;
} npi_wait;

/* Makes the event and the waiter, once; wake is sent when an armed wait
 * fires. 0 or UV_ENOMEM. */
int npi_wait_open(npi_wait* wait, uv_async_t* wake);
/* A clean OVERLAPPED for the next operation. */
OVERLAPPED* npi_wait_begin(npi_wait* wait);
/* The operation is pending: fire at its end, or after timeout_ms at the
 * latest, 0 = never. May be called again for the same operation. */
void npi_wait_arm(npi_wait* wait, unsigned timeout_ms);
/* Is the operation over, or its time? Says so once after npi_wait_arm(). */
bool npi_wait_fired(npi_wait* wait);
/* Is the operation over? Asks the system. */
bool npi_wait_over(const npi_wait* wait);
/* How the operation ended: 0 or an error, and how many bytes it moved. */
DWORD npi_wait_result(npi_wait* wait, HANDLE file, size_t* bytes);
/* Cancels the pending operation and returns when the system is done with it:
 * a fraction of a millisecond. */
void npi_wait_cancel(npi_wait* wait, HANDLE file);
/* The same for an operation that the system may refuse to cancel: false if it
 * goes on; it then still fires. */
bool npi_wait_try_cancel(npi_wait* wait, HANDLE file);
/* The end of a wait that may have been armed. Nothing may be pending. False:
 * not over yet, wake will be sent; ask again then. Safe if not open. */
bool npi_wait_retire(npi_wait* wait);
/* The end of one that was never armed. */
void npi_wait_close(npi_wait* wait);

/* ---- nt.c: what only the native API can do */
typedef struct npi_nt_wait_request {
  LARGE_INTEGER timeout; /* negative: relative, in 100 ns */
  ULONG name_bytes;
  BOOLEAN timeout_given; /* else the pipe's own */
  WCHAR name[NPI_NAME_UNITS_MAX + 1];
} npi_nt_wait_request;

/* Opens the root of the pipe file system for waits. 0 or a Win32 error. */
DWORD npi_nt_open_root(HANDLE* root);
/* Fills in whom to wait for: the NAME of this path. The time is left alone. */
void npi_nt_wait_for(npi_nt_wait_request* request,
                     const WCHAR path[NPI_PATH_UNITS]);
/* WaitNamedPipe without blocking: 0 (an instance listens), ERROR_IO_PENDING,
 * or an error. request has to stay until the end. */
DWORD npi_nt_wait_pipe(HANDLE root, npi_nt_wait_request* request,
                       npi_wait* wait);
/* Is an empty message the next one in this pipe? False if that is unknown. */
bool npi_nt_empty_next(HANDLE pipe);

/* ---- security.c */
/* The access list of a server's pipe; LocalFree() it. 0 or UV_E*. */
int npi_security_make(const npipe_server_options* options,
                      PSECURITY_DESCRIPTOR* descriptor);
/* Does this client's end lead to a server of the same user, SYSTEM or an
 * administrator? 0 or UV_EACCES. */
int npi_security_check_server(HANDLE pipe);

/* ---- conn.c */
/* Writes \\?\pipe\NAME; false if it does not fit, which no parsed name does */
bool npi_win_path(WCHAR path[NPI_PATH_UNITS], const npi_name* name);
/* Puts the connection's handles on its loop. 0 or UV_E*. */
int npi_conn_begin(npi_win_conn* conn);
/* Gives the pipe to libuv, in message read mode if it has messages. type and
 * can_read must be set. Takes the pipe over, also when it fails. */
int npi_conn_adopt(npi_win_conn* conn, HANDLE pipe);

/* ---- connect.c */
typedef struct npi_connect npi_connect;
/* The loop was woken for a connection that is not open yet. */
void npi_connect_step(npi_win_conn* conn);
/* Gives up. False: the system still holds memory of ours; wait for a wake. */
bool npi_connect_abandon(npi_win_conn* conn);

/* ---- read.c */
#define NPI_SMALL_BYTES 256u

/* Where the reading side of a connection stands. */
typedef struct npi_reader {
  npi_wait wait;  /* before the connection is open: of the connect */
  bool pending;   /* a ReadFile is under way */
  bool held;      /* data[0..got) was taken from the system and not shown */
  bool held_more; /* ... and its message goes on in the system */
  bool inside;    /* a part of the next data's message was already shown */
  bool busy;      /* the last piece was larger than small */
  bool merge;     /* byte read mode: the system alone does not fill up */
  npi_op* op;     /* whom the ReadFile serves; NULL: the stream */
  char* data;     /* the buffer at work: the program's, small or large */
  size_t size;
  size_t got;
  char* large; /* only while there is much to read */
  size_t large_size;
  char small[NPI_SMALL_BYTES];
} npi_reader;

void npi_read_turn(npi_win_conn* conn);
/* Ends a ReadFile that is under way. */
void npi_read_close(npi_win_conn* conn);

/* ---- write.c */
typedef struct npi_writer {
  npi_wait wait;
  npi_op* op;       /* an npipe_try_write() beyond the quota; NULL: none */
  unsigned pending; /* other writes beyond the quota */
  npi_queue later;  /* writes not given to the system yet */
  int end;          /* 0, or how a pending write has failed */
} npi_writer;

void npi_write_turn(npi_win_conn* conn);
/* At close: gives the pending npipe_try_write() NPI_LINGER_MS from now. */
void npi_write_linger(npi_win_conn* conn);
/* Is it still to be waited for? */
bool npi_write_lingers(npi_win_conn* conn);
/* The pipe is closed: cancels the writes that the system never saw. */
void npi_write_drop(npi_win_conn* conn);

/* ---- the objects */
struct npi_win_conn {
  npipe_conn base;
  uv_pipe_t pipe;   /* the transport */
  uv_async_t wake;  /* from the pool to the loop; keeps the loop alive */
  unsigned handles; /* of these two, how many are on the loop */
  bool has_wake;
  bool shut;     /* the pipe is closed; not yet wake */
  HANDLE handle; /* the pipe's, once it is libuv's; else NULL */
  npi_connect* connect;
  npi_reader reader;
  npi_writer writer;
};

#endif /* NPI_WIN_WIN_H */
