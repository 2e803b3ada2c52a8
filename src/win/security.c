/*
 * Who may connect, and to whom we do.
 *
 * A server's pipe gets an explicit, protected access list before its name is
 * visible; the system's default would let everyone read. The owner's user,
 * SYSTEM and the administrators have full access. Other users, if the options
 * let them in, get what a client needs in the pipe's direction and nothing
 * else, above all not FILE_CREATE_PIPE_INSTANCE (which GENERIC_WRITE would
 * contain): with it they could add instances of their own to our name and
 * take our clients.
 *
 * A careful client looks at the owner of the pipe it has opened. The owner was
 * set when the first instance was made and can only be one of the identities
 * of that process, so a stranger who took the name cannot forge it. A pipe
 * without any owner (Wine gives none to a pipe with the default access list)
 * is judged by the user of the server's process; if we may not ask for that
 * either, the pipe is refused.
 */
#include <wchar.h>

#include "win.h"

#include <aclapi.h>
#include <sddl.h>

/* A client's rights: those of GENERIC_READ or GENERIC_WRITE on files without
 * FILE_APPEND_DATA, which is FILE_CREATE_PIPE_INSTANCE on pipes, and both
 * attribute rights, without which a client cannot see or set its read mode. */
#define SECURITY_CLIENT_READS L"0x120189"
#define SECURITY_CLIENT_WRITES L"0x120192"
#define SECURITY_CLIENT_DOES_BOTH L"0x12019b"

#define SECURITY_TEXT_UNITS 640

/* Each is a pointer first, and the system puts the SID behind it. */
typedef union security_identity {
  TOKEN_USER user;
  TOKEN_PRIMARY_GROUP group;
  TOKEN_OWNER owner;
  char room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
} security_identity;

/* The user of a process, its primary group, or its default owner. 0 or a Win32
 * error. */
static DWORD security_identity_of(HANDLE process, TOKEN_INFORMATION_CLASS what,
                                  security_identity* identity) {
  HANDLE token;
  DWORD bytes;
  DWORD error = ERROR_SUCCESS;
  if (!OpenProcessToken(process, TOKEN_QUERY, &token)) return GetLastError();
  if (!GetTokenInformation(token, what, identity, sizeof *identity, &bytes))
    error = GetLastError();
  CloseHandle(token);
  return error;
}

static const WCHAR* security_client_rights(npipe_direction direction) {
  if (direction == NPIPE_INBOUND) return SECURITY_CLIENT_WRITES;
  if (direction == NPIPE_OUTBOUND) return SECURITY_CLIENT_READS;
  return SECURITY_CLIENT_DOES_BOTH;
}

/* The access list in the system's text form. */
static DWORD security_text(const npipe_server_options* options,
                           WCHAR text[SECURITY_TEXT_UNITS]) {
  security_identity user;
  security_identity group;
  WCHAR* user_sid = NULL;
  WCHAR* group_sid = NULL;
  const WCHAR* rights = security_client_rights(options->direction);
  HANDLE self = GetCurrentProcess();
  DWORD error = security_identity_of(self, TokenUser, &user);
  if (error == 0) error = security_identity_of(self, TokenPrimaryGroup, &group);
  if (error != 0) return error;
  if (!ConvertSidToStringSidW(user.user.User.Sid, &user_sid) ||
      !ConvertSidToStringSidW(group.group.PrimaryGroup, &group_sid)) {
    error = GetLastError();
    goto done;
  }
  const WCHAR* others = options->allow == NPIPE_ALLOW_GROUP ? group_sid : L"WD";
  bool more = options->allow != NPIPE_ALLOW_OWNER;
  int units =
      swprintf(text, SECURITY_TEXT_UNITS,
               L"D:P(A;;FA;;;%ls)(A;;FA;;;SY)(A;;FA;;;BA)"
               L"%ls%ls%ls%ls%ls",
               user_sid, more ? L"(A;;" : L"", more ? rights : L"",
               more ? L";;;" : L"", more ? others : L"", more ? L")" : L"");
  if (units < 0) error = ERROR_INSUFFICIENT_BUFFER;
done:
  if (user_sid != NULL) LocalFree(user_sid);
  if (group_sid != NULL) LocalFree(group_sid);
  return error;
}

int npi_security_make(const npipe_server_options* options,
                      PSECURITY_DESCRIPTOR* descriptor) {
  WCHAR text[SECURITY_TEXT_UNITS];
  DWORD error = security_text(options, text);
  if (error == 0 && !ConvertStringSecurityDescriptorToSecurityDescriptorW(
                        text, SDDL_REVISION_1, descriptor, NULL))
    error = GetLastError();
  if (error == 0) return 0;
  return npi_fail(npi_win_error(error), (int) error,
                  "create pipe: cannot make its access list (error %lu)",
                  error);
}

/* ---- the careful client */

/* Besides the user: whom this process makes the owner of its own objects, which
 * is the user or, for an elevated administrator, the administrators. */
static bool security_is_self(PSID sid) {
  security_identity self;
  HANDLE process = GetCurrentProcess();
  if (security_identity_of(process, TokenUser, &self) == 0 &&
      EqualSid(sid, self.user.User.Sid))
    return true;
  return security_identity_of(process, TokenOwner, &self) == 0 &&
         EqualSid(sid, self.owner.Owner);
}

static bool security_trusted(PSID sid) {
  return IsWellKnownSid(sid, WinLocalSystemSid) ||
         IsWellKnownSid(sid, WinBuiltinAdministratorsSid) ||
         security_is_self(sid);
}

static bool security_process_trusted(HANDLE pipe) {
  security_identity user;
  ULONG pid;
  if (!GetNamedPipeServerProcessId(pipe, &pid)) return false;
  HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, pid);
  if (process == NULL) return false;
  bool trusted = security_identity_of(process, TokenUser, &user) == 0 &&
                 security_trusted(user.user.User.Sid);
  CloseHandle(process);
  return trusted;
}

int npi_security_check_server(HANDLE pipe) {
  PSID owner = NULL;
  PSECURITY_DESCRIPTOR descriptor = NULL;
  DWORD error =
      GetSecurityInfo(pipe, SE_KERNEL_OBJECT, OWNER_SECURITY_INFORMATION,
                      &owner, NULL, NULL, NULL, &descriptor);
  bool known = error == 0 && owner != NULL;
  bool trusted =
      known ? security_trusted(owner) : security_process_trusted(pipe);
  if (descriptor != NULL) LocalFree(descriptor);
  return trusted ? 0 : UV_EACCES;
}
