/*
 * Who may connect: the access list of a server's pipe.
 *
 * It is explicit and protected, and set before the name is visible; the
 * system's default would let everyone read. The owner's user, SYSTEM and the
 * administrators have full access. Other users, if the options let them in, get
 * what a client needs in the pipe's direction and nothing else, above all not
 * FILE_CREATE_PIPE_INSTANCE (which GENERIC_WRITE would contain): with it they
 * could add instances of their own to our name and take our clients. A program
 * can give a descriptor of its own instead (windows_sddl).
 *
 * The list also carries marks: what the kernel has no place for and others with
 * npipe must know. A mark is an entry that grants a well-known group the right
 * to wait, SYNCHRONIZE alone, which is nothing that helps anybody. All
 * instances of a name have the list of the first (CR7), so a mark is the
 * name's.
 */
#include <string.h>
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
#define SECURITY_SDDL_UNITS_MAX 32767

static const WCHAR* security_client_rights(npipe_direction direction) {
  if (direction == NPIPE_INBOUND) return SECURITY_CLIENT_WRITES;
  if (direction == NPIPE_OUTBOUND) return SECURITY_CLIENT_READS;
  return SECURITY_CLIENT_DOES_BOTH;
}

/* The access list in the system's text form. */
static DWORD security_text(const npipe_server_options* options,
                           WCHAR text[SECURITY_TEXT_UNITS]) {
  npi_identity user;
  npi_identity group;
  WCHAR* user_sid = NULL;
  WCHAR* group_sid = NULL;
  const WCHAR* rights = security_client_rights(options->direction);
  HANDLE self = GetCurrentProcess();
  DWORD error = npi_identity_of(self, TokenUser, &user);
  if (error == 0) error = npi_identity_of(self, TokenPrimaryGroup, &group);
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

/* ---- marks */

/* For whom the entry of this mark is. */
static bool security_mark_sid(unsigned mark, npi_identity* room) {
  DWORD bytes = sizeof room->room;
  WELL_KNOWN_SID_TYPE who =
      mark == NPI_MARK_SHARED ? WinLocalSystemSid : WinBuiltinAdministratorsSid;
  return CreateWellKnownSid(who, NULL, room->room, &bytes) != FALSE;
}

/* A copy of the list with the marks at its end; npi_free() it. NULL: no
 * memory. */
static ACL* security_mark_list(ACL* list, unsigned marks) {
  npi_identity sid;
  void* first;
  DWORD bytes = list->AclSize + 2 * (DWORD) (sizeof(ACCESS_ALLOWED_ACE) +
                                             SECURITY_MAX_SID_SIZE);
  ACL* copy = bytes > UINT16_MAX ? NULL : npi_malloc(bytes);
  if (copy == NULL) return NULL;
  bool done = InitializeAcl(copy, bytes, ACL_REVISION) != FALSE;
  DWORD old = list->AclSize - (DWORD) sizeof *list;
  if (done && list->AceCount > 0)
    done = GetAce(list, 0, &first) &&
           AddAce(copy, list->AclRevision, MAXDWORD, first, old);
  for (unsigned mark = NPI_MARK_SHARED; done && mark <= NPI_MARK_ONE;
       mark <<= 1)
    if ((marks & mark) != 0)
      done =
          security_mark_sid(mark, &sid) &&
          AddAccessAllowedAce(copy, copy->AclRevision, SYNCHRONIZE, sid.room);
  if (done) return copy;
  npi_free(copy);
  return NULL;
}

/* The descriptor with another list, in one piece; LocalFree() it. */
static PSECURITY_DESCRIPTOR security_with_list(PSECURITY_DESCRIPTOR from,
                                               ACL* list) {
  SECURITY_DESCRIPTOR whole;
  SECURITY_DESCRIPTOR_CONTROL control;
  ACL* audit = NULL;
  PSID owner = NULL;
  PSID group = NULL;
  BOOL present = FALSE;
  BOOL defaulted = FALSE;
  DWORD revision;
  DWORD bytes = 0;
  if (!InitializeSecurityDescriptor(&whole, SECURITY_DESCRIPTOR_REVISION) ||
      !GetSecurityDescriptorControl(from, &control, &revision) ||
      !GetSecurityDescriptorOwner(from, &owner, &defaulted) ||
      !GetSecurityDescriptorGroup(from, &group, &defaulted) ||
      !GetSecurityDescriptorSacl(from, &present, &audit, &defaulted) ||
      !SetSecurityDescriptorOwner(&whole, owner, FALSE) ||
      !SetSecurityDescriptorGroup(&whole, group, FALSE) ||
      !SetSecurityDescriptorDacl(&whole, TRUE, list, FALSE) ||
      (present && !SetSecurityDescriptorSacl(&whole, TRUE, audit, FALSE)))
    return NULL;
  const SECURITY_DESCRIPTOR_CONTROL kept =
      SE_DACL_PROTECTED | SE_SACL_PROTECTED;
  SetSecurityDescriptorControl(&whole, kept, control & kept);
  MakeSelfRelativeSD(&whole, NULL, &bytes);
  PSECURITY_DESCRIPTOR piece = LocalAlloc(LMEM_FIXED, bytes);
  if (piece == NULL || MakeSelfRelativeSD(&whole, piece, &bytes)) return piece;
  LocalFree(piece);
  return NULL;
}

/* NULL: there is none, and so everybody may do everything. */
static ACL* security_list(PSECURITY_DESCRIPTOR descriptor) {
  BOOL present = FALSE;
  BOOL defaulted = FALSE;
  ACL* list = NULL;
  if (!GetSecurityDescriptorDacl(descriptor, &present, &list, &defaulted))
    return NULL;
  return present ? list : NULL;
}

static int security_mark(PSECURITY_DESCRIPTOR* descriptor, unsigned marks) {
  ACL* marked = security_mark_list(security_list(*descriptor), marks);
  PSECURITY_DESCRIPTOR whole =
      marked == NULL ? NULL : security_with_list(*descriptor, marked);
  npi_free(marked);
  if (whole == NULL)
    return npi_fail(UV_ENOMEM, 0, "create pipe: cannot mark its access list");
  LocalFree(*descriptor);
  *descriptor = whole;
  return 0;
}

static unsigned security_mark_of(ACE_HEADER* header) {
  npi_identity sid;
  ACCESS_ALLOWED_ACE* entry = (ACCESS_ALLOWED_ACE*) (void*) header;
  if (header->AceType != ACCESS_ALLOWED_ACE_TYPE || header->AceFlags != 0 ||
      entry->Mask != SYNCHRONIZE)
    return 0;
  for (unsigned mark = NPI_MARK_SHARED; mark <= NPI_MARK_ONE; mark <<= 1)
    if (security_mark_sid(mark, &sid) && EqualSid(&entry->SidStart, sid.room))
      return mark;
  return 0;
}

unsigned npi_security_marks(HANDLE pipe, PSECURITY_DESCRIPTOR* copy) {
  unsigned marks = 0;
  ACL* list = NULL;
  PSECURITY_DESCRIPTOR descriptor = NULL;
  void* entry;
  if (copy != NULL) *copy = NULL;
  if (GetSecurityInfo(pipe, SE_KERNEL_OBJECT, DACL_SECURITY_INFORMATION, NULL,
                      NULL, &list, NULL, &descriptor) != ERROR_SUCCESS)
    return 0;
  for (DWORD i = 0; list != NULL && i < list->AceCount; i++)
    if (GetAce(list, i, &entry)) marks |= security_mark_of(entry);
  if (copy != NULL)
    *copy = descriptor;
  else
    LocalFree(descriptor);
  return marks;
}

/* ---- the whole */

static DWORD security_convert(const char* sddl,
                              PSECURITY_DESCRIPTOR* descriptor) {
  int units =
      MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, sddl, -1, NULL, 0);
  if (units <= 0 || units > SECURITY_SDDL_UNITS_MAX)
    return ERROR_INVALID_PARAMETER;
  WCHAR* text = npi_malloc((size_t) units * sizeof *text);
  if (text == NULL) return ERROR_NOT_ENOUGH_MEMORY;
  MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, sddl, -1, text, units);
  BOOL done = ConvertStringSecurityDescriptorToSecurityDescriptorW(
      text, SDDL_REVISION_1, descriptor, NULL);
  DWORD error = done ? ERROR_SUCCESS : GetLastError();
  npi_free(text);
  return error;
}

/* The program's own words. One without a list would let everybody in; who
 * wants that can say so in a list. */
static int security_parse(const char* sddl, PSECURITY_DESCRIPTOR* descriptor) {
  DWORD error = security_convert(sddl, descriptor);
  if (error == ERROR_NOT_ENOUGH_MEMORY)
    return npi_fail(UV_ENOMEM, 0, "create pipe: no memory");
  if (error != 0)
    return npi_fail(UV_EINVAL, (int) error,
                    "create pipe: windows_sddl is no security descriptor "
                    "(error %lu)",
                    error);
  if (security_list(*descriptor) != NULL) return 0;
  LocalFree(*descriptor);
  *descriptor = NULL;
  return npi_fail(UV_EINVAL, 0,
                  "create pipe: windows_sddl has no access list (D:)");
}

static int security_preset(const npipe_server_options* options,
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

int npi_security_make(const npipe_server_options* options,
                      PSECURITY_DESCRIPTOR* descriptor) {
  unsigned marks = 0;
  if (options->shared != 0)
    marks = NPI_MARK_SHARED;
  else if (options->max_instances == 1)
    marks = NPI_MARK_ONE;
  const char* sddl = options->windows_sddl;
  int err = sddl != NULL ? security_parse(sddl, descriptor)
                         : security_preset(options, descriptor);
  return err != 0 || marks == 0 ? err : security_mark(descriptor, marks);
}
