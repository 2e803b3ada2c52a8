/* The Windows half of os.h. */
#include "os.h"

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

int os_under_wine(void) {
  HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
  return ntdll && GetProcAddress(ntdll, "wine_get_version") != NULL;
}

int os_serves_in_order(void) {
  return 0;
}

int os_flushes_by_thread(void) {
  return 1;
}

int os_has_sddl(void) {
  return 1;
}

int os_fork_holder(void) {
  return 0;
}

void os_end_holder(int pid) {
  (void) pid;
}

int os_other_user(unsigned* uid, unsigned* gid) {
  (void) uid;
  (void) gid;
  return 0;
}

int os_make_shared_dir(char path[OS_PATH_BYTES]) {
  (void) path;
  return 0;
}

void os_remove_dir(const char* path) {
  (void) path;
}
