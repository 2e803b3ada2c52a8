/*
 * The questions about pipes that the Win32 functions cannot ask well.
 *
 * Waiting for an instance: WaitNamedPipe() blocks its thread and cannot be
 * cancelled. It is a wrapper around the control code FSCTL_PIPE_WAIT on the
 * root of the pipe file system (MS-FSCC 2.3), which is an ordinary overlapped
 * request when the root is opened for that. So nobody has to block.
 *
 * How many messages wait, and is the next one empty? PeekNamedPipe() shows an
 * empty message as an empty pipe (PK5); FSCTL_PIPE_PEEK counts messages.
 *
 * Where does the instance stand, and which way does data flow? That is in
 * FILE_PIPE_LOCAL_INFORMATION. An outbound server's end may not ask for it
 * (CR11); for that FSCTL_PIPE_LISTEN tells the state, because it changes
 * nothing where a client is or was.
 *
 * Control codes of the pipe file system must go through NtFsControlFile():
 * DeviceIoControl() would send them as device controls. Without a context they
 * post nothing to a completion port. The functions are taken from ntdll when
 * first needed; it is always loaded, and not every tool chain links it.
 */
#include <string.h>
#include <wchar.h>

#include "win.h"

#include <winternl.h>

#define NT_PIPE_LISTEN 0x00110008UL /* FSCTL_PIPE_LISTEN */
#define NT_PIPE_PEEK 0x0011400CUL   /* FSCTL_PIPE_PEEK */
#define NT_PIPE_WAIT 0x00110018UL   /* FSCTL_PIPE_WAIT */
#define NT_PIPE_LOCAL 24            /* FilePipeLocalInformation */
#define NT_BUFFER_OVERFLOW ((NTSTATUS) 0x80000005L)

typedef NTSTATUS(NTAPI* nt_open_fn)(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES,
                                    PIO_STATUS_BLOCK, ULONG, ULONG);
typedef NTSTATUS(NTAPI* nt_control_fn)(HANDLE, HANDLE, PVOID, PVOID,
                                       PIO_STATUS_BLOCK, ULONG, PVOID, ULONG,
                                       PVOID, ULONG);
typedef NTSTATUS(NTAPI* nt_query_fn)(HANDLE, PIO_STATUS_BLOCK, PVOID, ULONG,
                                     int);
typedef ULONG(NTAPI* nt_error_fn)(NTSTATUS);

/* FILE_PIPE_LOCAL_INFORMATION */
typedef struct nt_local {
  ULONG type;
  ULONG configuration; /* as npipe_direction counts: see nt_direction() */
  ULONG instances_max;
  ULONG instances;
  ULONG in_quota;
  ULONG readable;
  ULONG out_quota;
  ULONG writable;
  ULONG state; /* as npipe_state counts */
  ULONG end;
} nt_local;

/* FILE_PIPE_PEEK_BUFFER */
typedef struct nt_peek {
  ULONG state;
  ULONG available;
  ULONG messages;
  ULONG length;
  char data[8];
} nt_peek;
#define NT_PEEK_BYTES 16u /* without data */

static struct {
  nt_open_fn open;
  nt_control_fn control;
  nt_query_fn query;
  nt_error_fn error;
} nt;

typedef void (*nt_any_fn)(void);

static nt_any_fn nt_find(const char* name) {
  HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
  return ntdll == NULL ? NULL : (nt_any_fn) GetProcAddress(ntdll, name);
}

static void nt_load(void) {
  nt.open = (nt_open_fn) nt_find("NtOpenFile");
  nt.control = (nt_control_fn) nt_find("NtFsControlFile");
  nt.query = (nt_query_fn) nt_find("NtQueryInformationFile");
  nt.error = (nt_error_fn) nt_find("RtlNtStatusToDosError");
}

static bool nt_ready(void) {
  static uv_once_t once = UV_ONCE_INIT;
  uv_once(&once, nt_load);
  return nt.open != NULL && nt.control != NULL && nt.query != NULL &&
         nt.error != NULL;
}

DWORD npi_nt_open_root(HANDLE* root) {
  static WCHAR path[] = L"\\??\\pipe\\";
  if (!nt_ready()) return ERROR_CALL_NOT_IMPLEMENTED;
  UNICODE_STRING name = {.Length = sizeof path - sizeof path[0],
                         .MaximumLength = sizeof path,
                         .Buffer = path};
  OBJECT_ATTRIBUTES attributes;
  IO_STATUS_BLOCK status;
  InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL,
                             NULL);
  NTSTATUS result =
      nt.open(root, FILE_READ_ATTRIBUTES | SYNCHRONIZE, &attributes, &status,
              FILE_SHARE_READ | FILE_SHARE_WRITE, 0);
  return result == 0 ? ERROR_SUCCESS : nt.error(result);
}

void npi_nt_wait_for(npi_nt_wait_request* request,
                     const WCHAR path[NPI_PATH_UNITS]) {
  const WCHAR* name = path + NPI_PATH_PREFIX_UNITS;
  size_t bytes = wcslen(name) * sizeof(WCHAR);
  memcpy(request->name, name, bytes);
  request->name_bytes = (ULONG) bytes;
}

DWORD npi_nt_wait_pipe(HANDLE root, npi_nt_wait_request* request,
                       npi_wait* wait) {
  OVERLAPPED* overlapped = npi_wait_begin(wait);
  /* The first two members of an OVERLAPPED are the system's status block. */
  IO_STATUS_BLOCK* status = (IO_STATUS_BLOCK*) (void*) overlapped;
  ULONG bytes = (ULONG) offsetof(npi_nt_wait_request, name);
  NTSTATUS result =
      nt.control(root, wait->event, NULL, NULL, status, NT_PIPE_WAIT, request,
                 bytes + request->name_bytes, NULL, 0);
  return result == 0 ? ERROR_SUCCESS : nt.error(result);
}

static DWORD nt_peek_pipe(HANDLE pipe, nt_peek* peek) {
  IO_STATUS_BLOCK status;
  memset(peek, 0, sizeof *peek);
  if (!nt_ready()) return ERROR_CALL_NOT_IMPLEMENTED;
  NTSTATUS result = nt.control(pipe, NULL, NULL, NULL, &status, NT_PIPE_PEEK,
                               NULL, 0, peek, NT_PEEK_BYTES);
  return result == NT_BUFFER_OVERFLOW ? ERROR_SUCCESS : nt.error(result);
}

bool npi_nt_empty_next(HANDLE pipe) {
  nt_peek peek;
  return nt_peek_pipe(pipe, &peek) == 0 && peek.messages > 0 &&
         peek.length == 0;
}

DWORD npi_nt_look(HANDLE pipe, npi_nt_unread* unread) {
  nt_peek peek;
  DWORD error = nt_peek_pipe(pipe, &peek);
  unread->state = (npipe_state) peek.state;
  unread->available = peek.available;
  unread->messages = peek.messages;
  return error;
}

/* ---- what it is and how it stands */

static npipe_direction nt_direction(ULONG configuration) {
  if (configuration == 0) return NPIPE_INBOUND;
  return configuration == 1 ? NPIPE_OUTBOUND : NPIPE_DUPLEX;
}

DWORD npi_nt_describe(HANDLE pipe, npipe_direction* direction,
                      npipe_state* state) {
  IO_STATUS_BLOCK status;
  nt_local local = {0};
  if (!nt_ready()) return ERROR_CALL_NOT_IMPLEMENTED;
  NTSTATUS result =
      nt.query(pipe, &status, &local, sizeof local, NT_PIPE_LOCAL);
  if (result != 0) return nt.error(result);
  *direction = nt_direction(local.configuration);
  *state = (npipe_state) local.state;
  return ERROR_SUCCESS;
}

/* Only for a server's end that has, or had, a client. */
static DWORD nt_listen_again(HANDLE pipe) {
  IO_STATUS_BLOCK status;
  if (!nt_ready()) return ERROR_CALL_NOT_IMPLEMENTED;
  return nt.error(nt.control(pipe, NULL, NULL, NULL, &status, NT_PIPE_LISTEN,
                             NULL, 0, NULL, 0));
}

npipe_state npi_nt_state(HANDLE pipe, bool is_server) {
  npipe_direction direction;
  npipe_state state = NPIPE_STATE_CONNECTED;
  DWORD error = npi_nt_describe(pipe, &direction, &state);
  if (error == ERROR_ACCESS_DENIED && is_server) error = nt_listen_again(pipe);
  switch (error) {
    case ERROR_SUCCESS: return state;
    case ERROR_NO_DATA: return NPIPE_STATE_CLOSING;
    case ERROR_PIPE_NOT_CONNECTED: return NPIPE_STATE_DISCONNECTED;
    default: return NPIPE_STATE_CONNECTED;
  }
}
