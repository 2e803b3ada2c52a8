/*
 * Who is at the other end.
 *
 * A careful client looks at the owner of the pipe it has opened. The owner was
 * set when the first instance was made and can only be one of the identities
 * of that process, so a stranger who took the name cannot forge it. A pipe
 * without any owner (Wine gives none to a pipe with the default access list)
 * is judged by the user of the server's process; if we may not ask for that
 * either, the pipe is refused.
 *
 * Of a peer the system keeps the process id, also after its close (ID1); we
 * note it down when the peer is met, together with the time. Its user is that
 * of the process. The number of a process that has ended can be another's by
 * the time the program asks; but that one was started after we met. So a
 * process that is younger than the acquaintance is not believed.
 */
#include <string.h>
#include <wchar.h>

#include "win.h"

#include <aclapi.h>
#include <sddl.h>

#define IDENTITY_NAME_UNITS 256

DWORD npi_identity_of(HANDLE process, TOKEN_INFORMATION_CLASS what,
                      npi_identity* identity) {
  HANDLE token;
  DWORD bytes;
  DWORD error = ERROR_SUCCESS;
  if (!OpenProcessToken(process, TOKEN_QUERY, &token)) return GetLastError();
  if (!GetTokenInformation(token, what, identity, sizeof *identity, &bytes))
    error = GetLastError();
  CloseHandle(token);
  return error;
}

/* ---- the careful client */

/* Besides the user: whom this process makes the owner of its own objects, which
 * is the user or, for an elevated administrator, the administrators. */
static bool identity_is_self(PSID sid) {
  npi_identity self;
  HANDLE process = GetCurrentProcess();
  if (npi_identity_of(process, TokenUser, &self) == 0 &&
      EqualSid(sid, self.user.User.Sid))
    return true;
  return npi_identity_of(process, TokenOwner, &self) == 0 &&
         EqualSid(sid, self.owner.Owner);
}

static bool identity_trusted(PSID sid) {
  return IsWellKnownSid(sid, WinLocalSystemSid) ||
         IsWellKnownSid(sid, WinBuiltinAdministratorsSid) ||
         identity_is_self(sid);
}

/* The user of the server's process, which the system knows. */
static bool identity_of_server(HANDLE pipe, npi_identity* user) {
  ULONG pid;
  if (!GetNamedPipeServerProcessId(pipe, &pid)) return false;
  HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, pid);
  if (process == NULL) return false;
  DWORD error = npi_identity_of(process, TokenUser, user);
  CloseHandle(process);
  return error == 0;
}

static bool identity_wanted(HANDLE pipe, PSID owner, const char* text) {
  npi_identity user;
  PSID sid;
  if (!ConvertStringSidToSidA(text, &sid)) return false;
  bool match = owner != NULL && EqualSid(owner, sid);
  /* The owner can be a group of the user's, as with elevated administrators.
   * Otherwise the process is not asked: its number may be another's by now. */
  bool ask = owner == NULL || identity_is_self(owner) ||
             IsWellKnownSid(owner, WinBuiltinAdministratorsSid);
  if (!match && ask)
    match =
        identity_of_server(pipe, &user) && EqualSid(user.user.User.Sid, sid);
  LocalFree(sid);
  return match;
}

static bool identity_server_trusted(HANDLE pipe, PSID owner) {
  npi_identity user;
  if (owner != NULL) return identity_trusted(owner);
  return identity_of_server(pipe, &user) &&
         identity_trusted(user.user.User.Sid);
}

int npi_identity_check_server(HANDLE pipe, const char* text) {
  PSID owner = NULL;
  PSECURITY_DESCRIPTOR descriptor = NULL;
  DWORD error =
      GetSecurityInfo(pipe, SE_KERNEL_OBJECT, OWNER_SECURITY_INFORMATION,
                      &owner, NULL, NULL, NULL, &descriptor);
  if (error != 0) owner = NULL;
  bool good = text[0] != '\0' ? identity_wanted(pipe, owner, text)
                              : identity_server_trusted(pipe, owner);
  if (descriptor != NULL) LocalFree(descriptor);
  return good ? 0 : UV_EACCES;
}

bool npi_identity_valid(const char* text) {
  PSID sid;
  if (!ConvertStringSidToSidA(text, &sid)) return false;
  LocalFree(sid);
  return true;
}

/* ---- the peer of a connection */

static ULONGLONG identity_time(FILETIME time) {
  return (ULONGLONG) time.dwHighDateTime << 32 | time.dwLowDateTime;
}

void npi_identity_meet(npi_win_conn* conn) {
  FILETIME now;
  ULONG pid = 0;
  BOOL known = conn->base.is_server
                   ? GetNamedPipeClientProcessId(conn->handle, &pid)
                   : GetNamedPipeServerProcessId(conn->handle, &pid);
  GetSystemTimeAsFileTime(&now);
  conn->peer_pid = known ? pid : 0;
  conn->peer_met = identity_time(now);
  npi_free(conn->peer_id);
  conn->peer_id = NULL;
}

/* Its user, if it still runs or its number is still its own. */
static bool identity_of_peer(const npi_win_conn* conn, npi_identity* user) {
  FILETIME created;
  FILETIME other;
  HANDLE process =
      OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, conn->peer_pid);
  if (process == NULL) return false;
  bool known = GetProcessTimes(process, &created, &other, &other, &other) &&
               identity_time(created) <= conn->peer_met &&
               npi_identity_of(process, TokenUser, user) == 0;
  CloseHandle(process);
  return known;
}

/* Asks for the peer's SID, once. False: it cannot be found out. */
static bool identity_find(npi_win_conn* conn) {
  npi_identity user;
  char* text;
  if (conn->peer_id != NULL) return true;
  if (conn->peer_pid == 0 || !identity_of_peer(conn, &user) ||
      !ConvertSidToStringSidA(user.user.User.Sid, &text))
    return false;
  size_t bytes = strlen(text) + 1;
  if (bytes <= NPIPE_ID_BYTES) conn->peer_id = npi_malloc(bytes);
  if (conn->peer_id != NULL) memcpy(conn->peer_id, text, bytes);
  LocalFree(text);
  return conn->peer_id != NULL;
}

/* DOMAIN\\name of a SID. */
static bool identity_name(const char* id, char* name, size_t size) {
  WCHAR user[IDENTITY_NAME_UNITS];
  WCHAR domain[IDENTITY_NAME_UNITS];
  WCHAR both[2 * IDENTITY_NAME_UNITS];
  DWORD user_units = IDENTITY_NAME_UNITS;
  DWORD domain_units = IDENTITY_NAME_UNITS;
  SID_NAME_USE use;
  PSID sid;
  if (!ConvertStringSidToSidA(id, &sid)) return false;
  BOOL known = LookupAccountSidW(NULL, sid, user, &user_units, domain,
                                 &domain_units, &use);
  LocalFree(sid);
  if (!known) return false;
  const WCHAR* between = domain[0] != L'\0' ? L"\\" : L"";
  int units = swprintf(both, 2 * IDENTITY_NAME_UNITS, L"%ls%ls%ls", domain,
                       between, user);
  return units > 0 && WideCharToMultiByte(CP_UTF8, 0, both, -1, name,
                                          (int) size, NULL, NULL) > 0;
}

void npi_os_peer(npipe_conn* base, unsigned want, npipe_peer* peer) {
  npi_win_conn* conn = (npi_win_conn*) base;
  if ((want & NPIPE_PEER_PID) != 0 && conn->peer_pid != 0) {
    peer->pid = conn->peer_pid;
    peer->known |= NPIPE_PEER_PID;
  }
  if ((want & (NPIPE_PEER_ID | NPIPE_PEER_USER)) == 0 || !identity_find(conn))
    return;
  if ((want & NPIPE_PEER_ID) != 0) {
    memcpy(peer->id, conn->peer_id, strlen(conn->peer_id) + 1);
    peer->known |= NPIPE_PEER_ID;
  }
  if ((want & NPIPE_PEER_USER) == 0) return;
  if (identity_name(conn->peer_id, peer->user, sizeof peer->user))
    peer->known |= NPIPE_PEER_USER;
  else
    memset(peer->user, 0, sizeof peer->user);
}
