/*
 * Names as files.
 *
 * A name must become one path, always the same, that no other name becomes,
 * and that fits the 104 bytes a socket's path may have on every Unix. Names
 * that are harmless file names stay readable; the others are hashed. Readable
 * ones cannot begin with '~', so the two kinds never meet.
 *
 * The directory is the first guard: whoever can write to it can put a socket
 * of his own there. So it has to be ours (or root's) and closed to others
 * before anything is made or opened in it. A program that runs with more
 * rights than its caller does not look at the environment.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "path.h"
#include "sha256.h"

#define PATH_READABLE_MAX 32
#define PATH_FILE_MAX (1 + PATH_READABLE_MAX + 5) /* "/", name, ".pipe" */
#define PATH_MACHINE "/run/npipe"
#define PATH_MACHINE_OLD "/var/run/npipe"

static char path_lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool path_harmless(const char* folded) {
  size_t length = strlen(folded);
  if (length > PATH_READABLE_MAX || folded[0] == '.') return false;
  return strspn(folded, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

void npi_path_file(const char* folded, char file[NPI_FILE_BYTES]) {
  uint8_t digest[NPI_SHA256_BYTES];
  size_t length = strlen(folded);
  if (path_harmless(folded)) {
    for (size_t i = 0; i <= length; i++) file[i] = path_lower(folded[i]);
    return;
  }
  npi_sha256(folded, length, digest);
  file[0] = '~';
  for (size_t i = 0; i < PATH_READABLE_MAX - 1; i++) {
    unsigned nibble = digest[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15u;
    file[1 + i] = "0123456789abcdef"[nibble];
  }
  file[PATH_READABLE_MAX] = '\0';
}

/* A variable of the environment, if it is set and can be trusted. */
static const char* path_variable(const char* variable) {
  if (geteuid() != getuid() || getegid() != getgid()) return NULL;
  const char* value = getenv(variable);
  return value != NULL && value[0] != '\0' ? value : NULL;
}

static int path_user_directory(char* out, size_t room) {
  const char* own = path_variable("NPIPE_DIR");
  const char* runtime = path_variable("XDG_RUNTIME_DIR");
  const char* temporary = path_variable("TMPDIR");
  if (own != NULL) return snprintf(out, room, "%s", own);
  if (runtime != NULL) return snprintf(out, room, "%s/npipe", runtime);
  return snprintf(out, room, "%s/npipe-%lu",
                  temporary != NULL ? temporary : "/tmp",
                  (unsigned long) geteuid());
}

static int path_machine_directory(char* out, size_t room) {
  struct stat info;
  bool modern = stat("/run", &info) == 0 && S_ISDIR(info.st_mode);
  return snprintf(out, room, "%s", modern ? PATH_MACHINE : PATH_MACHINE_OLD);
}

static int path_too_long(const npi_path* path) {
  return npi_fail(UV_ENAMETOOLONG, 0,
                  "pipe directory '%.80s': longer than %d bytes; set "
                  "NPIPE_DIR to a shorter one",
                  path->directory, NPI_SOCK_PATH_MAX - PATH_FILE_MAX);
}

static bool path_join(char* out, size_t room, const char* directory,
                      const char* file, const char* suffix) {
  int length = snprintf(out, room, "%s/%s%s", directory, file, suffix);
  return length >= 0 && (size_t) length < room;
}

int npi_path_of_name(npi_path* path, const npi_name* name, npipe_scope scope) {
  char folded[NPIPE_NAME_BYTES];
  char file[NPI_FILE_BYTES];
  size_t room = sizeof path->directory;
  int length = scope == NPIPE_SCOPE_MACHINE
                   ? path_machine_directory(path->directory, room)
                   : path_user_directory(path->directory, room);
  /* Every name has room or none has. */
  if (length < 0 || length > NPI_SOCK_PATH_MAX - PATH_FILE_MAX)
    return path_too_long(path);
  /* "dir/" would follow a link that "dir" is. */
  while (length > 1 && path->directory[length - 1] == '/')
    path->directory[--length] = '\0';
  if (path->directory[0] != '/')
    return npi_fail(UV_EINVAL, 0, "pipe directory '%.80s': not absolute",
                    path->directory);
  npi_name_fold(name, folded);
  npi_path_file(folded, file);
  bool fits = path_join(path->socket, sizeof path->socket, path->directory,
                        file, ".pipe") &&
              path_join(path->lock, sizeof path->lock, path->directory, file,
                        ".lock") &&
              path_join(path->share, sizeof path->share, path->directory, file,
                        ".share");
  return fits ? 0 : path_too_long(path);
}

int npi_path_of_plain(npi_path* path, const char* plain) {
  if (plain[0] == '\0')
    return npi_fail(UV_EINVAL, 0, "plain path: it is empty");
  if (strlen(plain) > NPI_SOCK_PATH_MAX)
    return npi_fail(UV_ENAMETOOLONG, 0,
                    "plain path '%.80s...': longer than %d bytes", plain,
                    NPI_SOCK_PATH_MAX);
  path->directory[0] = path->share[0] = '\0';
  snprintf(path->socket, sizeof path->socket, "%s", plain);
  snprintf(path->lock, sizeof path->lock, "%s.lock", plain);
  return 0;
}

int npi_path_make_directory(const npi_path* path) {
  if (mkdir(path->directory, 0700) == 0 || errno == EEXIST) return 0;
  int err = -errno;
  return npi_fail(err == UV_EPERM || err == UV_EROFS ? UV_EACCES : err, -err,
                  "pipe directory %s: cannot be made: %s; make it, or set "
                  "NPIPE_DIR",
                  path->directory, strerror(-err));
}

int npi_path_check_directory(const npi_path* path, npipe_scope scope) {
  struct stat info;
  if (lstat(path->directory, &info) < 0) {
    int err = errno == ENOTDIR ? UV_ENOENT : -errno;
    return npi_fail(err, -err, "pipe directory %s: %s", path->directory,
                    strerror(-err));
  }
  if (!S_ISDIR(info.st_mode))
    return npi_fail(UV_EACCES, 0, "pipe directory %s: not a directory",
                    path->directory);
  if (info.st_uid != geteuid() && info.st_uid != 0)
    return npi_fail(UV_EACCES, 0,
                    "pipe directory %s: belongs to user %lu, not to this one",
                    path->directory, (unsigned long) info.st_uid);
  bool shared = (info.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  bool sticky = scope == NPIPE_SCOPE_MACHINE && (info.st_mode & S_ISVTX) != 0;
  if (shared && !sticky)
    return npi_fail(UV_EACCES, 0,
                    "pipe directory %s: others can write to it (mode %03o); "
                    "take that right away or set NPIPE_DIR",
                    path->directory, (unsigned) info.st_mode & 0777u);
  return 0;
}
