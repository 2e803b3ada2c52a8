/*
 * What the files of src/win know of each other: a connection and a server on
 * the kernel's named pipes, and small helpers around the system's calls.
 *
 * Two rules hold in every file. An overlapped call of ours on a pipe that
 * libuv has adopted carries an event with the low bit set, so that its
 * completion never reaches libuv's completion port; npi_wait_begin() sees to
 * it. And threads of the system's pool do nothing but set a flag and wake the
 * loop (and call FlushFileBuffers(), flush.c); all else is done by the loop's
 * thread.
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

#define NPI_NS_PER_MS 1000000u

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
/* How the instance stands and what can be read, as the system counts; Wine
 * leaves messages at 0. 0 or a Win32 error. */
typedef struct npi_nt_unread {
  npipe_state state;
  size_t available;
  size_t messages;
} npi_nt_unread;
DWORD npi_nt_look(HANDLE pipe, npi_nt_unread* unread);
/* Which way data flows, and where the instance stands. 0 or a Win32 error;
 * ERROR_PIPE_NOT_CONNECTED for a client that was disconnected. */
DWORD npi_nt_describe(HANDLE pipe, npipe_direction* direction,
                      npipe_state* state);
/* Only the state, also for an end that may not ask (CR11). For threads, too. */
npipe_state npi_nt_state(HANDLE pipe, bool is_server);

/* ---- security.c */
/* What a server notes down for others in its pipe's access list. */
#define NPI_MARK_SHARED 1u /* options.shared */
#define NPI_MARK_ONE 2u    /* max_instances is 1, and not the system's 2 */

/* The security descriptor of a server's pipe, marks included; LocalFree() it.
 * 0 or UV_E*. */
int npi_security_make(const npipe_server_options* options,
                      PSECURITY_DESCRIPTOR* descriptor);
/* The marks of this pipe; 0 also if they cannot be read. If copy is not NULL
 * it gets the access list; LocalFree() it. */
unsigned npi_security_marks(HANDLE pipe, PSECURITY_DESCRIPTOR* copy);

/* ---- identity.c */
/* Each is a pointer first, and the system puts the SID behind it. */
typedef union npi_identity {
  TOKEN_USER user;
  TOKEN_PRIMARY_GROUP group;
  TOKEN_OWNER owner;
  char room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
} npi_identity;

/* The user of a process, its primary group, or its default owner. 0 or a Win32
 * error. */
DWORD npi_identity_of(HANDLE process, TOKEN_INFORMATION_CLASS what,
                      npi_identity* identity);
/* Is this the text of a SID? */
bool npi_identity_valid(const char* text);
/* Does this client's end lead to a server of the same user, SYSTEM or an
 * administrator; or, if text is not "", of the user with this SID? 0 or
 * UV_EACCES. */
int npi_identity_check_server(HANDLE pipe, const char* text);
/* A new peer is there: notes down what will be asked for later. */
void npi_identity_meet(npi_win_conn* conn);

/* ---- conn.c */
/* Writes \\?\pipe\NAME; false if it does not fit, which no parsed name does */
bool npi_win_path(WCHAR path[NPI_PATH_UNITS], const npi_name* name);
/* Puts the connection's handles on its loop. 0 or UV_E*. */
int npi_conn_begin(npi_win_conn* conn);
/* Gives the pipe to libuv, in message read mode if it has messages. type and
 * can_read must be set. Takes the pipe over, also when it fails. */
int npi_conn_adopt(npi_win_conn* conn, HANDLE pipe);
/* Another look at everything in ms at the latest. */
void npi_conn_tick(npi_win_conn* conn, uint64_t ms);
/* Nothing of the present peer is left on our side: reads are let go, what they
 * brought is dropped, writes end with UV_ECONNABORTED. */
void npi_conn_cut(npi_win_conn* conn);
/* A client has found out that its server disconnected it. */
void npi_conn_lost(npi_win_conn* conn);

/* ---- connect.c */
typedef struct npi_connector npi_connector;
/* The loop was woken for a connection that is not open yet. */
void npi_connect_step(npi_win_conn* conn);
/* Gives up. False: the system still holds memory of ours; wait for a wake. */
bool npi_connect_abandon(npi_win_conn* conn);

/* ---- read.c */
#define NPI_SMALL_BYTES 256u

/* Where the reading side of a connection stands. */
typedef struct npi_reader {
  npi_wait wait;  /* before the connection is open: of the connect; while
                     the instance listens: of ConnectNamedPipe() */
  bool pending;   /* a ReadFile is under way */
  bool held;      /* data[0..got) was taken from the system and not shown */
  bool held_more; /* ... and its message goes on in the system */
  bool inside;    /* a part of the next data's message was already shown */
  bool busy;      /* the last piece was larger than small */
  bool merge;     /* byte read mode: the system alone does not fill up */
  npi_op* op;     /* whom the ReadFile (or TransactNamedPipe) serves; NULL: the
                     stream */
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
/* Ends it and forgets what it had brought. */
void npi_read_reset(npi_win_conn* conn);

/* Begins a transaction at once, before it stands in conn->reads. 0, or a Win32
 * error and nothing was done. */
DWORD npi_read_transact(npi_win_conn* conn, npi_op* op);

/* ---- transact.c: the front read is a transaction, whose request stands in
 * writer.later */
/* May its request go now? */
bool npi_transact_ready(npi_win_conn* conn, const npi_op* op);
/* Is this write, in writer.later, the request of a transaction that will send
 * it? */
bool npi_transact_sends(const npi_win_conn* conn, const npi_op* write);
/* Sends it: TransactNamedPipe(). 0 or a Win32 error. */
DWORD npi_transact_call(npi_win_conn* conn, npi_op* op, void* reply, DWORD room,
                        OVERLAPPED* overlapped);
/* The transaction ends without having sent its request, which goes on as a
 * plain write (TX4). Nothing for other reads. */
void npi_transact_leave(npi_win_conn* conn, npi_op* op);

/* ---- write.c */
typedef struct npi_writer {
  npi_wait wait;
  npi_op* op;       /* the write that waits in the system; NULL: none */
  npi_queue later;  /* writes not given to the system yet */
  uint64_t issued;  /* how many were, from this peer's coming on */
  uint64_t flushed; /* so many of them were read for certain */
} npi_writer;

/* Gives writes to the system, as far as they can go. */
void npi_write_drain(npi_win_conn* conn);
void npi_write_turn(npi_win_conn* conn);
/* While closing: are writes still to be waited for? */
bool npi_write_lingers(npi_win_conn* conn);
/* Ends all writes; status is for those that did not succeed. */
void npi_write_cut(npi_win_conn* conn, int status);

/* ---- flush.c */
typedef struct npi_flush npi_flush;
typedef struct npi_flusher {
  npi_flush* head; /* in the order of the calls; also those given up */
  npi_flush* tail;
  unsigned count;
} npi_flusher;

void npi_flush_turn(npi_win_conn* conn);
/* Must this write wait until a flush before it is in the system? */
bool npi_flush_holds(const npi_win_conn* conn, uint64_t id);
/* This write has failed: no flush behind it can say that it was read. */
void npi_flush_fail(npi_win_conn* conn, uint64_t id);
/* Is no thread in here any more? If not, a wake or tick will come. */
bool npi_flush_gone(npi_win_conn* conn);
/* The instance is about to be disconnected: from now on no thread asks how it
 * stands. */
void npi_flush_bar(npi_win_conn* conn);

/* ---- instance.c */
/* A wake in LISTENING or DISCONNECTED. */
void npi_instance_step(npi_win_conn* conn);
/* Ends a ConnectNamedPipe() that is under way. */
void npi_instance_close(npi_win_conn* conn);

/* ---- the objects */
struct npi_win_conn {
  npipe_conn base;
  uv_pipe_t pipe;   /* owns the handle */
  uv_async_t wake;  /* from the pool to the loop; keeps the loop alive */
  uv_timer_t tick;  /* for what nobody wakes us for */
  unsigned handles; /* of these three, how many are on the loop */
  bool has_wake;    /* and tick */
  bool shut;        /* the pipe is closed; not yet the others */
  bool listening;   /* ConnectNamedPipe() is under way, with reader.wait */
  bool arrived;     /* it found a client at once */
  uint64_t linger_end_ns; /* uv_hrtime(); while closing */
  HANDLE handle;          /* the pipe's, once it is libuv's; else NULL */
  npi_connector* connect;
  npi_reader reader;
  npi_writer writer;
  npi_flusher flusher;
  ULONG peer_pid;     /* 0: not known */
  ULONGLONG peer_met; /* when, as a FILETIME */
  char* peer_id;      /* its SID, once it was asked for; npi_free() */
};

#endif /* NPI_WIN_WIN_H */
