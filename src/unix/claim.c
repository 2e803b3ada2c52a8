/*
 * Claiming a name.
 *
 * Beside the socket NAME.pipe stands NAME.lock. Whoever holds a flock() on the
 * lock file owns the name; the kernel lets go of it when the process dies, so
 * a dead server's name can be told from a live one's without asking anybody,
 * and only the holder ever removes or makes the socket. That closes the gap
 * between "is it dead?" and "remove it" in which two new servers could
 * otherwise destroy each other's sockets.
 *
 * The lock file is removed with the name. So it can happen that one process
 * opens it, the owner removes it, and the first then locks a file that nobody
 * else will ever see: after locking, the path must still lead to that file,
 * else try again.
 *
 * A socket that nobody listens on refuses connections, so between bind() and
 * listen() there is time to set the mode: nobody gets in before.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claim.h"
#include "share.h"

#define CLAIM_TRIES_MAX 100

static int claim_error(int err, const char* path, const char* doing) {
  int code = err == UV_EPERM || err == UV_EROFS ? UV_EACCES : err;
  return npi_fail(code, -err, "%s %s: %s", doing, path, strerror(-err));
}

static int claim_foreign(const char* path) {
  return npi_fail(UV_EEXIST, 0,
                  "%s: a file that is not npipe's stands there; it was left "
                  "alone, choose another name or remove it",
                  path);
}

static int claim_open_lock(const char* path) {
  int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  int fd = open(path, flags, 0600);
  if (fd >= 0) return fd;
  int err = errno;
  /* A link, a directory, a FIFO or socket: each system says it its own way. */
  bool foreign = err == ELOOP || err == EMLINK || err == EISDIR ||
                 err == ENXIO || err == EOPNOTSUPP;
  return foreign ? claim_foreign(path) : claim_error(-err, path, "lock file");
}

/* Is the file behind fd a lock file of ours? */
static int claim_check_lock(int fd, const char* path) {
  struct stat info;
  if (fstat(fd, &info) < 0) return claim_error(-errno, path, "lock file");
  /* Ours are empty; what holds data is somebody else's. */
  if (!S_ISREG(info.st_mode) || info.st_size != 0) return claim_foreign(path);
  if (info.st_uid != geteuid())
    return npi_fail(UV_EACCES, 0, "lock file %s: belongs to user %lu", path,
                    (unsigned long) info.st_uid);
  return 0;
}

static bool claim_same_file(int fd, const char* path) {
  struct stat open_file;
  struct stat named;
  return fstat(fd, &open_file) == 0 && lstat(path, &named) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

int npi_claim_in_use(const npi_claim* claim) {
  return npi_fail(UV_EADDRINUSE, 0,
                  "%s: a live server has this name; end it or choose another",
                  claim->path.socket);
}

int npi_claim_lock(npi_claim* claim) {
  const npi_path* path = &claim->path;
  for (int tries = 0; tries < CLAIM_TRIES_MAX; tries++) {
    int fd = claim_open_lock(path->lock);
    if (fd < 0) return fd;
    int err = claim_check_lock(fd, path->lock);
    if (err == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
      err = errno == EWOULDBLOCK ? npi_claim_in_use(claim)
                                 : claim_error(-errno, path->lock, "lock");
    if (err == 0 && claim_same_file(fd, path->lock)) {
      claim->lock_fd = fd;
      return 0;
    }
    close(fd);
    if (err != 0) return err;
  }
  return npi_claim_in_use(claim);
}

/* Does anybody listen on the socket file that is there? */
static int claim_probe(const char* path) {
  int fd = npi_sock_open();
  if (fd < 0) return claim_error(fd, path, "probe");
  int err = npi_sock_connect(fd, path);
  npi_sock_close(fd);
  if (err == UV_ECONNREFUSED) return 0; /* its server is dead */
  if (err == 0 || err == UV_EAGAIN) return UV_EADDRINUSE;
  if (err == UV_EPROTOTYPE) return claim_foreign(path);
  return claim_error(err, path, "probe");
}

bool npi_claim_is_served(const npi_claim* claim) {
  return claim_probe(claim->path.socket) == UV_EADDRINUSE;
}

/* Removes what a dead server left. Holds the lock. */
static int claim_clear(const npi_claim* claim) {
  const char* path = claim->path.socket;
  struct stat info;
  if (lstat(path, &info) < 0)
    return errno == ENOENT ? 0 : claim_error(-errno, path, "socket");
  if (!S_ISSOCK(info.st_mode)) return claim_foreign(path);
  int err = claim_probe(path);
  if (err == UV_EADDRINUSE) return npi_claim_in_use(claim);
  if (err != 0) return err;
  return unlink(path) < 0 ? claim_error(-errno, path, "remove") : 0;
}

static int claim_bind(npi_claim* claim, mode_t mode, int fd) {
  const char* path = claim->path.socket;
  struct stat info;
  int err = npi_sock_bind(fd, path);
  if (err != 0) return claim_error(err, path, "bind");
  if (chmod(path, mode) < 0 || lstat(path, &info) < 0)
    err = claim_error(-errno, path, "mode of");
  if (err == 0) err = npi_sock_listen(fd);
  if (err != 0) {
    unlink(path);
    return err;
  }
  claim->socket_device = info.st_dev;
  claim->socket_inode = info.st_ino;
  return 0;
}

int npi_claim_listen(npi_claim* claim, mode_t mode, int* out) {
  int err = claim_clear(claim);
  if (err != 0) return err;
  int fd = npi_sock_open();
  if (fd < 0) return claim_error(fd, claim->path.socket, "socket for");
  err = claim_bind(claim, mode, fd);
  if (err != 0)
    npi_sock_close(fd);
  else
    *out = fd;
  return err;
}

/* Of a name that was shared and is not any more. Holds the lock. */
static int claim_clear_share(const npi_claim* claim) {
  if (claim->path.share[0] == '\0') return 0; /* a plain one */
  bool clear = npi_share_remove(claim->path.share);
  return clear ? 0 : npi_claim_in_use(claim);
}

int npi_claim_take(npi_claim* claim, mode_t mode, int* fd) {
  int err = npi_claim_lock(claim);
  if (err != 0) return err;
  err = claim_clear_share(claim);
  if (err == 0) err = npi_claim_listen(claim, mode, fd);
  if (err != 0) npi_claim_unlock(claim);
  return err;
}

/* ---- the end */

/* Somebody may have cleaned up and a new server made its own. */
void npi_claim_unlock(npi_claim* claim) {
  if (claim_same_file(claim->lock_fd, claim->path.lock))
    unlink(claim->path.lock);
  /* A forked child may hold the same open file: closing would not unlock. */
  flock(claim->lock_fd, LOCK_UN);
  npi_claim_leave(claim);
}

static bool claim_is_our_socket(const npi_claim* claim) {
  struct stat info;
  return lstat(claim->path.socket, &info) == 0 &&
         info.st_dev == claim->socket_device &&
         info.st_ino == claim->socket_inode;
}

void npi_claim_drop(npi_claim* claim) {
  if (claim->lock_fd < 0) return;
  if (claim_is_our_socket(claim)) unlink(claim->path.socket);
  npi_claim_unlock(claim);
}

/* ---- several holders */

void npi_claim_adopt(npi_claim* claim, int lock_fd) {
  struct stat info;
  claim->lock_fd = lock_fd;
  if (lstat(claim->path.socket, &info) < 0) return;
  claim->socket_device = info.st_dev;
  claim->socket_inode = info.st_ino;
}

void npi_claim_leave(npi_claim* claim) {
  npi_sock_close(claim->lock_fd);
  claim->lock_fd = -1;
}
