/*
 * The file of a shared name: NAME.share, see share.h and docs/names.md.
 *
 * The locks are those of an open file description (F_OFD_SETLK): each server
 * opens the file once and holds its locks by that, so the kernel lets go of
 * them when the process ends, however it ends, and two servers in one process
 * are as different as two processes. What is locked are bytes behind the end of
 * the file; their places are only names:
 *
 *   slot 1..254   one connected client each: the count of instances is the
 *                 number of these locks, and nobody has to keep it
 *   lead          the server that answers the clients
 *   alive         read: by every server; write: by the one that makes or
 *                 removes the name, so it never happens under a live one
 *
 * The file is written while `alive` is held for writing, so a reader who is
 * alive finds it whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "share.h"

#define SHARE_BYTES 40
#define SHARE_VERSION 1u
#define SHARE_SLOTS_AT 4096
#define SHARE_LEAD_AT 4608
#define SHARE_ALIVE_AT 4609
#define SHARE_ALL_BYTES 1024

static const uint8_t share_magic[4] = {'N', 'P', 'S', 'H'};

/* ---- locks */

#ifdef F_OFD_SETLK
static int share_lock(int fd, int type, int at, int bytes) {
  struct flock lock = {.l_type = (short) type,
                       .l_whence = SEEK_SET,
                       .l_start = at,
                       .l_len = bytes};
  if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return 0;
  return errno == EACCES || errno == EAGAIN ? UV_EAGAIN : -errno;
}

/* Does somebody else hold it? */
static bool share_locked(int fd, int at) {
  struct flock lock = {
      .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static bool share_supported(void) {
  return true;
}
#else
static int share_lock(int fd, int type, int at, int bytes) {
  (void) fd;
  (void) type;
  (void) at;
  (void) bytes;
  return UV_ENOTSUP;
}

static bool share_locked(int fd, int at) {
  (void) fd;
  (void) at;
  return false;
}

static bool share_supported(void) {
  return false;
}
#endif

/* ---- the file */

static int share_fail(int err, const char* path) {
  return npi_fail(err, -err, "file of a shared pipe %s: %s", path,
                  strerror(-err));
}

static int share_foreign(const char* path) {
  return npi_fail(UV_EEXIST, 0,
                  "%s: a file that is not npipe's stands there; it was left "
                  "alone, choose another name or remove it",
                  path);
}

/* A file of ours is new and empty, or begins with our word. */
static int share_check(int fd, const char* path) {
  struct stat info;
  uint8_t magic[sizeof share_magic];
  if (fstat(fd, &info) < 0) return share_fail(-errno, path);
  if (!S_ISREG(info.st_mode)) return share_foreign(path);
  if (info.st_uid != geteuid())
    return npi_fail(UV_EACCES, 0,
                    "file of a shared pipe %s: belongs to user "
                    "%lu",
                    path, (unsigned long) info.st_uid);
  if (info.st_size == 0) return 0;
  bool ours = info.st_size == SHARE_BYTES &&
              pread(fd, magic, sizeof magic, 0) == (ssize_t) sizeof magic &&
              memcmp(magic, share_magic, sizeof magic) == 0;
  return ours ? 0 : share_foreign(path);
}

int npi_share_open(npi_share* share, const char* path, bool make) {
  memset(share, 0, sizeof *share);
  share->fd = -1;
  if (!share_supported())
    return npi_fail(UV_ENOTSUP, 0, "shared pipe: this system cannot");
  int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  int fd = open(path, make ? flags | O_CREAT : flags, 0600);
  if (fd < 0 && errno == ENOENT && !make) return UV_ENOENT;
  if (fd < 0 && (errno == EMFILE || errno == ENFILE))
    return share_fail(UV_EMFILE, path);
  if (fd < 0)
    return errno == EACCES ? share_fail(UV_EACCES, path) : share_foreign(path);
  int err = share_check(fd, path);
  if (err != 0) {
    close(fd);
    return err;
  }
  share->fd = fd;
  return 0;
}

/* A forked child may hold the same open file: closing would not unlock. */
void npi_share_close(npi_share* share) {
  if (share->fd < 0) return;
  share_lock(share->fd, F_UNLCK, SHARE_SLOTS_AT, SHARE_ALL_BYTES);
  close(share->fd);
  share->fd = -1;
}

bool npi_share_same(const npi_share* share, const char* path) {
  struct stat open_file;
  struct stat named;
  return fstat(share->fd, &open_file) == 0 && lstat(path, &named) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

/* ---- alive, leading */

int npi_share_live(npi_share* share) {
  return share_lock(share->fd, F_RDLCK, SHARE_ALIVE_AT, 1);
}

int npi_share_alone(npi_share* share) {
  /* Ours is given up first: of two that go at once the later one must find
   * itself alone. */
  share_lock(share->fd, F_UNLCK, SHARE_ALIVE_AT, 1);
  return share_lock(share->fd, F_WRLCK, SHARE_ALIVE_AT, 1);
}

bool npi_share_others(const npi_share* share) {
  return share_locked(share->fd, SHARE_ALIVE_AT);
}

bool npi_share_lives(const char* path) {
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return false;
  bool lives = share_locked(fd, SHARE_ALIVE_AT);
  close(fd);
  return lives;
}

bool npi_share_remove(const char* path) {
  npi_share share;
  if (npi_share_open(&share, path, false) != 0) return true;
  bool alone = npi_share_alone(&share) == 0;
  if (alone && npi_share_same(&share, path)) unlink(path);
  npi_share_close(&share);
  return alone;
}

int npi_share_lead(npi_share* share) {
  return share_lock(share->fd, F_WRLCK, SHARE_LEAD_AT, 1);
}

void npi_share_unlead(npi_share* share) {
  share_lock(share->fd, F_UNLCK, SHARE_LEAD_AT, 1);
}

/* ---- what the first server decided */

static void put32(uint8_t* out, uint32_t value) {
  for (int i = 0; i < 4; i++) out[i] = (uint8_t) (value >> 8 * i);
}

static uint32_t get32(const uint8_t* in) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; i--) value = value << 8 | in[i];
  return value;
}

static void share_count(npi_share* share, unsigned max_instances) {
  bool limited = max_instances <= NPI_SLOTS_MAX;
  share->slots = limited ? max_instances : 0;
}

int npi_share_write(npi_share* share, const npipe_server_options* o) {
  uint8_t bytes[SHARE_BYTES];
  const uint32_t facts[] = {
      SHARE_VERSION,       (uint32_t) o->type,   (uint32_t) o->direction,
      (uint32_t) o->allow, o->unix_mode,         o->max_instances,
      o->default_wait_ms,  o->message_max_bytes, 0};
  memcpy(bytes, share_magic, sizeof share_magic);
  for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
    put32(bytes + 4 + 4 * i, facts[i]);
  if (ftruncate(share->fd, 0) < 0) return -errno;
  ssize_t written = pwrite(share->fd, bytes, sizeof bytes, 0);
  if (written != (ssize_t) sizeof bytes)
    return written < 0 ? -errno : UV_ENOSPC;
  share_count(share, o->max_instances);
  return 0;
}

int npi_share_read(npi_share* share, npipe_server_options* o, npipe_type* type,
                   npipe_direction* direction) {
  uint8_t bytes[SHARE_BYTES];
  uint32_t facts[9];
  bool whole =
      pread(share->fd, bytes, sizeof bytes, 0) == (ssize_t) sizeof bytes;
  for (size_t i = 0; i < 9; i++)
    facts[i] = whole ? get32(bytes + 4 + 4 * i) : 0;
  bool valid = whole && memcmp(bytes, share_magic, sizeof share_magic) == 0 &&
               facts[0] == SHARE_VERSION && facts[1] <= NPIPE_MESSAGE &&
               facts[2] <= NPIPE_OUTBOUND && facts[3] <= NPIPE_ALLOW_EVERYONE &&
               facts[4] <= 0777 && facts[5] >= 1 &&
               facts[5] <= NPIPE_INSTANCES_UNLIMITED && facts[6] >= 1 &&
               facts[7] >= 1 && facts[7] <= NPIPE_MESSAGE_MAX_BYTES &&
               facts[8] == 0;
  if (!valid)
    return npi_fail(UV_EEXIST, 0, "shared pipe: its file is not understood");
  *type = (npipe_type) facts[1];
  *direction = (npipe_direction) facts[2];
  o->allow = (npipe_allow) facts[3];
  o->unix_mode = facts[4];
  o->max_instances = facts[5];
  o->default_wait_ms = facts[6];
  o->message_max_bytes = facts[7];
  share_count(share, o->max_instances);
  return 0;
}

/* ---- slots */

static bool share_slot_is_free(const npi_share* share, unsigned slot,
                               const void* const* taken) {
  if (share->held[slot] || (taken != NULL && taken[slot] != NULL)) return false;
  return !share_locked(share->fd, SHARE_SLOTS_AT + (int) slot);
}

unsigned npi_share_slot_find(const npi_share* share, const void* const* taken) {
  for (unsigned slot = 1; slot <= share->slots; slot++)
    if (share_slot_is_free(share, slot, taken)) return slot;
  return 0;
}

unsigned npi_share_slots_free(const npi_share* share,
                              const void* const* taken) {
  unsigned count = 0;
  for (unsigned slot = 1; slot <= share->slots; slot++)
    if (share_slot_is_free(share, slot, taken)) count++;
  return count;
}

int npi_share_slot_take(npi_share* share, unsigned slot) {
  if (slot < 1 || slot > share->slots || share->held[slot]) return UV_EINVAL;
  int err = share_lock(share->fd, F_WRLCK, SHARE_SLOTS_AT + (int) slot, 1);
  share->held[slot] = err == 0;
  return err;
}

void npi_share_slot_free(npi_share* share, unsigned slot) {
  if (slot < 1 || slot > share->slots || !share->held[slot]) return;
  share_lock(share->fd, F_UNLCK, SHARE_SLOTS_AT + (int) slot, 1);
  share->held[slot] = false;
}
