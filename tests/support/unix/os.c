/*
 * The Unix half of os.h.
 *
 * os_fork_holder() is the accident of rule ST6: a process that forks without
 * exec, or a library that does it behind its back, leaves copies of every
 * socket alive. The child must touch nothing but the kernel, because other
 * threads of the parent may have held locks.
 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* mkdtemp() */
#endif

#include "os.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534u
#define HOLDER_SECONDS 60u

int os_under_wine(void) {
  return 0;
}

int os_serves_in_order(void) {
  return 1;
}

int os_flushes_by_thread(void) {
  return 0;
}

int os_has_sddl(void) {
  return 0;
}

int os_fork_holder(void) {
  pid_t pid = fork();
  if (pid < 0) abort();
  if (pid > 0) return (int) pid;
  alarm(HOLDER_SECONDS); /* never outlives a parent that crashes for long */
  for (;;) pause();
}

void os_end_holder(int pid) {
  kill((pid_t) pid, SIGKILL);
  int status;
  while (waitpid((pid_t) pid, &status, 0) < 0) continue;
}

int os_other_user(unsigned* uid, unsigned* gid) {
  if (geteuid() != 0) return 0;
  *uid = NOBODY;
  *gid = NOBODY;
  return 1;
}

int os_make_shared_dir(char path[OS_PATH_BYTES]) {
  snprintf(path, OS_PATH_BYTES, "/tmp/npipe-test-XXXXXX");
  return mkdtemp(path) != NULL && chmod(path, 0755) == 0;
}

void os_remove_dir(const char* path) {
  rmdir(path);
}
