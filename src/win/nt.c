/*
 * The two questions about pipes that the Win32 functions cannot ask well.
 *
 * Waiting for an instance: WaitNamedPipe() blocks its thread and cannot be
 * cancelled. It is a wrapper around the control code FSCTL_PIPE_WAIT on the
 * root of the pipe file system (MS-FSCC 2.3), which is an ordinary overlapped
 * request when the root is opened for that. So nobody has to block.
 *
 * Is the next message an empty one? PeekNamedPipe() shows an empty message as
 * an empty pipe (PK5); FSCTL_PIPE_PEEK counts messages.
 *
 * Control codes of the pipe file system must go through NtFsControlFile():
 * DeviceIoControl() would send them as device controls. The functions are
 * taken from ntdll when first needed; it is always loaded, and not every
 * tool chain links it.
 */
#include <string.h>
#include <wchar.h>

#include "win.h"

#include <winternl.h>

#define NT_PIPE_PEEK 0x0011400CUL /* FSCTL_PIPE_PEEK */
#define NT_PIPE_WAIT 0x00110018UL /* FSCTL_PIPE_WAIT */
#define NT_PENDING 0x00000103UL
#define NT_BUFFER_OVERFLOW ((NTSTATUS) 0x80000005L)

typedef NTSTATUS(NTAPI* nt_open_fn)(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES,
                                    PIO_STATUS_BLOCK, ULONG, ULONG);
typedef NTSTATUS(NTAPI* nt_control_fn)(HANDLE, HANDLE, PVOID, PVOID,
                                       PIO_STATUS_BLOCK, ULONG, PVOID, ULONG,
                                       PVOID, ULONG);
typedef ULONG(NTAPI* nt_error_fn)(NTSTATUS);

static struct {
  nt_open_fn open;
  nt_control_fn control;
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
  nt.error = (nt_error_fn) nt_find("RtlNtStatusToDosError");
}

static bool nt_ready(void) {
  static uv_once_t once = UV_ONCE_INIT;
  uv_once(&once, nt_load);
  return nt.open != NULL && nt.control != NULL && nt.error != NULL;
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
  overlapped->Internal = NT_PENDING;
  /* The first two members of an OVERLAPPED are the system's status block. */
  IO_STATUS_BLOCK* status = (IO_STATUS_BLOCK*) (void*) overlapped;
  ULONG bytes = (ULONG) offsetof(npi_nt_wait_request, name);
  NTSTATUS result =
      nt.control(root, wait->event, NULL, NULL, status, NT_PIPE_WAIT, request,
                 bytes + request->name_bytes, NULL, 0);
  return result == 0 ? ERROR_SUCCESS : nt.error(result);
}

bool npi_nt_empty_next(HANDLE pipe) {
  struct {
    ULONG state;
    ULONG available;
    ULONG messages;
    ULONG length;
    char data[8];
  } peek = {0};
  IO_STATUS_BLOCK status;
  if (!nt_ready()) return false;
  NTSTATUS result = nt.control(pipe, NULL, NULL, NULL, &status, NT_PIPE_PEEK,
                               NULL, 0, &peek, 16);
  if (result != 0 && result != NT_BUFFER_OVERFLOW) return false;
  return peek.messages > 0 && peek.length == 0;
}
