/* What differs from system to system and libuv does not hide; the bodies are
 * unix/os.c and win/os.c. */
#ifndef TESTS_SUPPORT_OS_H
#define TESTS_SUPPORT_OS_H

/* Does this run under Wine? */
int os_under_wine(void);

/* Are clients that wait for a busy pipe served in their order? Unix promises
 * it, Windows does not. */
int os_serves_in_order(void);

/* Does this system know access lists as text (SDDL), and users as SIDs? */
int os_has_sddl(void);

/* Does a flush wait on a thread of its own, which takes a moment to get there?
 * A peer that closes within that moment looks as if it had closed before. */
int os_flushes_by_thread(void);

/* Forks a process that does nothing and holds copies of every descriptor, the
 * inherited and the other. Returns its id, or 0 where there is no fork. */
int os_fork_holder(void);

/* Kills and reaps a process made by os_fork_holder(). */
void os_end_holder(int pid);

/* May this process start another one as an unprivileged user? Sets its ids. */
int os_other_user(unsigned* uid, unsigned* gid);

#define OS_PATH_BYTES 256

/* Makes a new directory that only this user can write and everybody can
 * enter; 0 if there is no use for it on this system. */
int os_make_shared_dir(char path[OS_PATH_BYTES]);

/* Removes it, if it is empty. */
void os_remove_dir(const char* path);

#endif /* TESTS_SUPPORT_OS_H */
