/*
 * Names as files, and the claim on them: path.h, sha256.h, claim.h. Everything
 * happens in a directory of the test's own.
 *
 * A child of fork() in here uses only what is safe after it: the claim is
 * system calls and memory of its own stack.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"
#include "harness.h"
#include "path.h"
#include "sha256.h"

#define DIRECTORY_MAX (NPI_SOCK_PATH_MAX - 38) /* "/", 32, ".pipe" */

static char sandbox[] = "/tmp/npipe-test-XXXXXX";
static char sandbox_template[sizeof sandbox];

/* ------------------------------------------------- a directory of our own */

static int sandbox_begin(void** state) {
  (void) state;
  if (sandbox_template[0] == 0) strcpy(sandbox_template, sandbox);
  strcpy(sandbox, sandbox_template);
  if (mkdtemp(sandbox) == NULL) return -1;
  return setenv("NPIPE_DIR", sandbox, 1);
}

static int sandbox_end(void** state) {
  struct dirent* entry;
  DIR* directory = opendir(sandbox);
  (void) state;
  if (directory == NULL) return -1;
  while ((entry = readdir(directory)) != NULL) {
    if (unlinkat(dirfd(directory), entry->d_name, 0) < 0)
      unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
  }
  closedir(directory);
  return rmdir(sandbox);
}

static void in_sandbox(char out[128], const char* file) {
  snprintf(out, 128, "%s/%s", sandbox, file);
}

static void put_file(const char* path, const char* text) {
  FILE* file = fopen(path, "w");
  CHECK(file != NULL);
  fputs(text, file);
  CHECK_STATUS(0, fclose(file));
}

static void check_file(const char* path, const char* text) {
  char bytes[64] = {0};
  FILE* file = fopen(path, "r");
  CHECK(file != NULL);
  CHECK_SIZE(strlen(text), fread(bytes, 1, sizeof bytes - 1, file));
  fclose(file);
  assert_string_equal(text, bytes);
}

static bool exists(const char* path) {
  struct stat info;
  return lstat(path, &info) == 0;
}

/* ------------------------------------------------- SHA-256 */

static void check_digest(const void* data, size_t size, const char* want) {
  uint8_t digest[NPI_SHA256_BYTES];
  char text[2 * NPI_SHA256_BYTES + 1];
  npi_sha256(data, size, digest);
  for (size_t i = 0; i < NPI_SHA256_BYTES; i++)
    snprintf(text + 2 * i, 3, "%02x", digest[i]);
  assert_string_equal(want, text);
}

static void sha256_of_the_standard(void** state) {
  static const char two_blocks[] =
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  char* million = must_alloc(1000000);
  (void) state;
  memset(million, 'a', 1000000);
  check_digest(
      "", 0,
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  check_digest(
      "abc", 3,
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  check_digest(
      two_blocks, sizeof two_blocks - 1,
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  check_digest(
      million, 1000000,
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  free(million);
}

/* ------------------------------------------------- file names */

static bool hashed(const char* folded) {
  char file[NPI_FILE_BYTES];
  memset(file, 0x7E, sizeof file);
  npi_path_file(folded, file);
  if (file[0] != '~') return false;
  CHECK_SIZE(32, strlen(file));
  CHECK_SIZE(31, strspn(file + 1, "0123456789abcdef"));
  return true;
}

static void readable(const char* folded, const char* want) {
  char file[NPI_FILE_BYTES];
  npi_path_file(folded, file);
  assert_string_equal(want, file);
}

static void nm5_harmless_names_stay_readable(void** state) {
  (void) state;
  readable("A", "a");
  readable("MY-PIPE_1.X", "my-pipe_1.x");
  readable("-", "-");
  readable("A..", "a..");
  readable("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345",
           "abcdefghijklmnopqrstuvwxyz012345");
}

static void nm5_others_are_hashed(void** state) {
  static const char* const names[] = {
      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456", /* 33 */
      ".",
      "..",
      ".A",
      "~",
      "~A",
      "~0123456789ABCDEF0123456789ABCDE", /* looks like a hash */
      "~0123456789abcdef0123456789abcde",
      "A B",
      "A~",
      "A:B",
      "A%B",
      "A\n",
      "\x01",
      "*",
      "$",
      "\xc3\x89",
  };
  char file[NPI_FILE_BYTES];
  (void) state;
  for (size_t i = 0; i < HARNESS_COUNT(names); i++)
    if (!hashed(names[i])) fail_msg("'%s' is not hashed", names[i]);
  npi_path_file("~", file); /* the start of the digest */
  uint8_t digest[NPI_SHA256_BYTES];
  char want[NPI_FILE_BYTES] = "~";
  npi_sha256("~", 1, digest);
  for (size_t i = 0; i < 16; i++)
    snprintf(want + 1 + 2 * i, 3, "%02x", digest[i]);
  want[32] = 0;
  assert_string_equal(want, file);
}

typedef char file_name[NPI_FILE_BYTES];

static int compare(const void* one, const void* other) {
  return strcmp(one, other);
}

/* Short names over an alphabet with everything in it, then long ones. */
static void nm5_no_two_names_share_a_file(void** state) {
  static const char alphabet[] = "AZ09._-~ :%\xc3\x89";
  enum { LETTERS = sizeof alphabet - 1, LONG = 20000 };
  size_t count = 0;
  size_t shorts = 1 + LETTERS;
  (void) state;
  shorts += (size_t) LETTERS * LETTERS * (1 + LETTERS + LETTERS * LETTERS);
  file_name* files = must_alloc((shorts + LONG) * sizeof *files);
  size_t words = LETTERS;
  for (int length = 1; length <= 4; length++, words *= LETTERS) {
    for (size_t word = 0; word < words; word++) {
      char name[5] = {0};
      size_t rest = word;
      for (int i = 0; i < length; i++, rest /= LETTERS)
        name[i] = alphabet[rest % LETTERS];
      npi_path_file(name, files[count++]);
    }
  }
  for (int i = 0; i < LONG; i++) {
    char name[64];
    snprintf(name, sizeof name, "%0*d", 28 + i % 8, i);
    npi_path_file(name, files[count++]);
  }
  CHECK(count <= shorts + LONG);
  qsort(files, count, sizeof *files, compare);
  for (size_t i = 0; i < count; i++) {
    CHECK(strlen(files[i]) <= 32);
    CHECK(strchr(files[i], '/') == NULL);
    if (i > 0 && strcmp(files[i - 1], files[i]) == 0)
      fail_msg("two names become %s", files[i]);
  }
  free(files);
}

/* ------------------------------------------------- paths */

static int path_of(npi_path* path, const char* text, npipe_scope scope) {
  npi_name name;
  CHECK_STATUS(0, npi_name_parse(&name, text));
  return npi_path_of_name(path, &name, scope);
}

static void paths_of_a_name(void** state) {
  npi_path path;
  npi_path other;
  char want[128];
  (void) state;
  CHECK_STATUS(0, path_of(&path, "My.Pipe", NPIPE_SCOPE_USER));
  assert_string_equal(sandbox, path.directory);
  in_sandbox(want, "my.pipe.pipe");
  assert_string_equal(want, path.socket);
  in_sandbox(want, "my.pipe.lock");
  assert_string_equal(want, path.lock);
  CHECK_STATUS(0, path_of(&other, "\\\\.\\pipe\\mY.pIPE", NPIPE_SCOPE_USER));
  assert_string_equal(path.socket, other.socket);
  CHECK_STATUS(0, path_of(&other, "x", NPIPE_SCOPE_MACHINE));
  CHECK(strcmp(other.directory, "/run/npipe") == 0 ||
        strcmp(other.directory, "/var/run/npipe") == 0);
}

static void nm5_directories_that_leave_no_room(void** state) {
  npi_path path;
  char directory[5000];
  static const char* const names[] = {"x", "012345678901234567890123456789ab",
                                      "a name to hash"};
  (void) state;
  memset(directory, 'd', sizeof directory);
  directory[0] = '/';
  for (size_t i = 0; i < HARNESS_COUNT(names); i++) {
    directory[DIRECTORY_MAX] = 0;
    CHECK_STATUS(0, setenv("NPIPE_DIR", directory, 1));
    CHECK_STATUS(0, path_of(&path, names[i], NPIPE_SCOPE_USER));
    CHECK(strlen(path.socket) <= NPI_SOCK_PATH_MAX);
    directory[DIRECTORY_MAX] = 'd';
    for (size_t size = DIRECTORY_MAX + 1; size < sizeof directory;
         size += 1233) {
      directory[size] = 0;
      CHECK_STATUS(0, setenv("NPIPE_DIR", directory, 1));
      CHECK_STATUS(UV_ENAMETOOLONG, path_of(&path, names[i], NPIPE_SCOPE_USER));
      CHECK_STATUS(UV_ENAMETOOLONG, npipe_last_error()->code);
      directory[size] = 'd';
    }
  }
}

static void the_environment_says_where(void** state) {
  npi_path path;
  char want[128];
  (void) state;
  CHECK_STATUS(0, setenv("NPIPE_DIR", "relative", 1));
  CHECK_STATUS(UV_EINVAL, path_of(&path, "x", NPIPE_SCOPE_USER));
  CHECK_STATUS(0, setenv("NPIPE_DIR", "./relative", 1));
  CHECK_STATUS(UV_EINVAL, path_of(&path, "x", NPIPE_SCOPE_USER));
  CHECK_STATUS(0, setenv("NPIPE_DIR", "", 1)); /* as if it were not set */
  CHECK_STATUS(0, setenv("XDG_RUNTIME_DIR", "/xdg", 1));
  CHECK_STATUS(0, setenv("TMPDIR", "/temporary", 1));
  CHECK_STATUS(0, path_of(&path, "x", NPIPE_SCOPE_USER));
  assert_string_equal("/xdg/npipe", path.directory);
  CHECK_STATUS(0, setenv("XDG_RUNTIME_DIR", "xdg", 1));
  CHECK_STATUS(UV_EINVAL, path_of(&path, "x", NPIPE_SCOPE_USER));
  CHECK_STATUS(0, unsetenv("XDG_RUNTIME_DIR"));
  CHECK_STATUS(0, path_of(&path, "x", NPIPE_SCOPE_USER));
  snprintf(want, sizeof want, "/temporary/npipe-%lu",
           (unsigned long) geteuid());
  assert_string_equal(want, path.directory);
  CHECK_STATUS(0, unsetenv("TMPDIR"));
  CHECK_STATUS(0, path_of(&path, "x", NPIPE_SCOPE_USER));
  snprintf(want, sizeof want, "/tmp/npipe-%lu", (unsigned long) geteuid());
  assert_string_equal(want, path.directory);
}

static void plain_paths(void** state) {
  npi_path path;
  char plain[NPI_SOCK_PATH_MAX + 2];
  (void) state;
  CHECK_STATUS(UV_EINVAL, npi_path_of_plain(&path, ""));
  CHECK_STATUS(0, npi_path_of_plain(&path, "/a/b"));
  assert_string_equal("", path.directory);
  assert_string_equal("/a/b", path.socket);
  assert_string_equal("/a/b.lock", path.lock);
  memset(plain, 'p', sizeof plain);
  plain[NPI_SOCK_PATH_MAX + 1] = 0;
  CHECK_STATUS(UV_ENAMETOOLONG, npi_path_of_plain(&path, plain));
  plain[NPI_SOCK_PATH_MAX] = 0;
  CHECK_STATUS(0, npi_path_of_plain(&path, plain));
  CHECK_SIZE(NPI_SOCK_PATH_MAX + 5, strlen(path.lock));
}

/* ------------------------------------------------- the directory */

static int directory_status(const char* file, npipe_scope scope) {
  npi_path path;
  char directory[128];
  in_sandbox(directory, file);
  setenv("NPIPE_DIR", directory, 1);
  CHECK_STATUS(0, path_of(&path, "x", NPIPE_SCOPE_USER));
  return npi_path_check_directory(&path, scope);
}

static void directory_mode(mode_t mode, int status, int machine_status) {
  char directory[128];
  in_sandbox(directory, "d");
  CHECK_STATUS(0, chmod(directory, mode));
  CHECK_STATUS(status, directory_status("d", NPIPE_SCOPE_USER));
  CHECK_STATUS(machine_status, directory_status("d", NPIPE_SCOPE_MACHINE));
}

static void nm6_only_a_directory_of_ours_is_trusted(void** state) {
  char directory[128];
  char link[128];
  (void) state;
  in_sandbox(directory, "d");
  CHECK_STATUS(UV_ENOENT, directory_status("d", NPIPE_SCOPE_USER));
  CHECK_STATUS(0, mkdir(directory, 0700));
  directory_mode(0700, 0, 0);
  directory_mode(0755, 0, 0);
  directory_mode(0777, UV_EACCES, UV_EACCES);
  directory_mode(0702, UV_EACCES, UV_EACCES);
  directory_mode(0720, UV_EACCES, UV_EACCES);
  directory_mode(01777, UV_EACCES, 0);
  directory_mode(0700, 0, 0);
  in_sandbox(link, "link");
  CHECK_STATUS(0, symlink(directory, link));
  CHECK_STATUS(UV_EACCES, directory_status("link", NPIPE_SCOPE_USER));
  CHECK_STATUS(UV_EACCES, directory_status("link", NPIPE_SCOPE_MACHINE));
  in_sandbox(link, "file");
  put_file(link, "text");
  CHECK_STATUS(UV_EACCES, directory_status("file", NPIPE_SCOPE_USER));
  CHECK_STATUS(UV_ENOENT, directory_status("file/d", NPIPE_SCOPE_USER));
  if (geteuid() == 0 && chown(directory, 65534, (gid_t) -1) == 0)
    directory_mode(0700, UV_EACCES, UV_EACCES);
}

static void nm6_a_directory_is_made_private(void** state) {
  npi_path path;
  char directory[128];
  struct stat info;
  (void) state;
  in_sandbox(directory, "made");
  setenv("NPIPE_DIR", directory, 1);
  CHECK_STATUS(0, path_of(&path, "x", NPIPE_SCOPE_USER));
  mode_t mask = umask(0);
  int err = npi_path_make_directory(&path);
  umask(mask);
  CHECK_STATUS(0, err);
  CHECK_STATUS(0, lstat(directory, &info));
  CHECK_SIZE(0700, info.st_mode & 07777u);
  CHECK_STATUS(0, npi_path_make_directory(&path)); /* it is there */
  CHECK_STATUS(0, npi_path_check_directory(&path, NPIPE_SCOPE_USER));
  in_sandbox(directory, "no/made");
  setenv("NPIPE_DIR", directory, 1);
  CHECK_STATUS(0, path_of(&path, "x", NPIPE_SCOPE_USER));
  CHECK_STATUS(UV_ENOENT, npi_path_make_directory(&path));
}

/* ------------------------------------------------- the claim */

static npi_claim claim_of(const char* text) {
  npi_claim claim = {.lock_fd = -1};
  CHECK_STATUS(0, path_of(&claim.path, text, NPIPE_SCOPE_USER));
  return claim;
}

static int claim_status(const char* text) {
  int fd = -1;
  npi_claim claim = claim_of(text);
  int err = npi_claim_take(&claim, 0600, &fd);
  if (err == 0) {
    npi_claim_drop(&claim);
    npi_sock_close(fd);
  }
  return err;
}

/* What another process gets; it dies with what it got if keep. */
static int claim_elsewhere(const npi_claim* wanted, bool keep) {
  int report[2];
  int err = 1;
  int status;
  CHECK_STATUS(0, pipe(report));
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    npi_claim claim = *wanted;
    int fd = -1;
    claim.lock_fd = -1;
    err = npi_claim_take(&claim, 0600, &fd);
    if (err == 0 && !keep) npi_claim_drop(&claim);
    if (write(report[1], &err, sizeof err) < 0) _exit(1);
    if (keep) kill(getpid(), SIGKILL);
    _exit(0);
  }
  close(report[1]);
  ssize_t size = read(report[0], &err, sizeof err);
  close(report[0]);
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK_SIZE(sizeof err, size);
  return err;
}

static void mp2_a_live_name_is_taken_once(void** state) {
  int fd = -1;
  npi_claim claim = claim_of("x");
  (void) state;
  CHECK_STATUS(0, npi_claim_take(&claim, 0600, &fd));
  CHECK(fd >= 0 && exists(claim.path.socket) && exists(claim.path.lock));
  CHECK_STATUS(UV_EADDRINUSE, claim_status("x"));
  CHECK_STATUS(UV_EADDRINUSE, npipe_last_error()->code);
  CHECK_STATUS(UV_EADDRINUSE, claim_status("X"));
  CHECK_STATUS(UV_EADDRINUSE, claim_elsewhere(&claim, false));
  CHECK(exists(claim.path.socket) && exists(claim.path.lock));
  CHECK_STATUS(0, claim_status("y"));
  int client = npi_sock_open(); /* still works after all that */
  CHECK(client >= 0);
  CHECK_STATUS(0, npi_sock_connect(client, claim.path.socket));
  npi_sock_close(client);
  npi_claim_drop(&claim);
  CHECK(!exists(claim.path.socket) && !exists(claim.path.lock));
  npi_claim_drop(&claim); /* nothing left to do */
  CHECK_STATUS(0, claim_elsewhere(&claim, false));
  npi_sock_close(fd);
  CHECK_STATUS(0, claim_status("x"));
}

static void cl7_a_dead_name_is_free(void** state) {
  npi_claim claim = claim_of("x");
  (void) state;
  CHECK_STATUS(0, claim_elsewhere(&claim, true));
  CHECK(exists(claim.path.socket) && exists(claim.path.lock));
  CHECK_STATUS(0, claim_elsewhere(&claim, true));
  CHECK_STATUS(0, claim_status("x"));
  CHECK(!exists(claim.path.socket) && !exists(claim.path.lock));
}

static void cl7_what_is_left_of_a_dead_name(void** state) {
  npi_claim claim = claim_of("x");
  (void) state;
  CHECK_STATUS(0, claim_elsewhere(&claim, true));
  CHECK_STATUS(0, unlink(claim.path.lock)); /* only the socket */
  CHECK_STATUS(0, claim_status("x"));
  put_file(claim.path.lock, ""); /* only the lock */
  CHECK_STATUS(0, claim_status("x"));
  CHECK(!exists(claim.path.socket) && !exists(claim.path.lock));
}

/* A fork without exec keeps a copy of the lock: dropping frees it anyway. */
static void cl7_a_forked_copy_does_not_hold_the_name(void** state) {
  int fd = -1;
  int status;
  npi_claim claim = claim_of("x");
  (void) state;
  CHECK_STATUS(0, npi_claim_take(&claim, 0600, &fd));
  int early = open(claim.path.lock, O_RDWR | O_CLOEXEC); /* one who waits */
  pid_t holder = os_fork_holder();
  npi_claim_drop(&claim);
  int unlocked = flock(early, LOCK_EX | LOCK_NB);
  close(early);
  npi_sock_close(fd);
  int err = claim_status("x");
  CHECK_STATUS(0, kill(holder, SIGKILL));
  CHECK(waitpid(holder, &status, 0) == holder);
  CHECK_STATUS(0, unlocked);
  CHECK_STATUS(0, err);
}

static void nm6_a_foreign_file_is_left_alone(void** state) {
  npi_claim claim = claim_of("x");
  char target[128];
  (void) state;
  put_file(claim.path.socket, "precious");
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  check_file(claim.path.socket, "precious");
  CHECK(!exists(claim.path.lock));
  CHECK_STATUS(0, unlink(claim.path.socket));
  CHECK_STATUS(0, mkdir(claim.path.socket, 0700));
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  CHECK_STATUS(0, rmdir(claim.path.socket));
  in_sandbox(target, "target");
  CHECK_STATUS(0, symlink(target, claim.path.socket)); /* to nothing */
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  CHECK(exists(claim.path.socket) && !exists(target));
  CHECK_STATUS(0, unlink(claim.path.socket));
  CHECK_STATUS(0, claim_status("x"));
}

static int foreign_socket(const char* path, int type) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, type, 0);
  CHECK(fd >= 0);
  CHECK(strlen(path) < sizeof address.sun_path);
  strcpy(address.sun_path, path);
  CHECK_STATUS(0, bind(fd, (struct sockaddr*) &address, sizeof address));
  return fd;
}

static void nm6_a_foreign_socket_is_left_alone(void** state) {
  npi_claim claim = claim_of("x");
  (void) state;
  int fd = foreign_socket(claim.path.socket, SOCK_DGRAM);
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  CHECK(exists(claim.path.socket));
  close(fd);
  CHECK_STATUS(0, unlink(claim.path.socket));
  fd = foreign_socket(claim.path.socket, SOCK_STREAM);
  CHECK_STATUS(0, npi_sock_listen(fd));
  CHECK_STATUS(UV_EADDRINUSE, claim_status("x"));
  CHECK(exists(claim.path.socket));
  close(fd);
}

static void nm6_a_foreign_lock_is_left_alone(void** state) {
  npi_claim claim = claim_of("x");
  char target[128];
  (void) state;
  put_file(claim.path.lock, "precious");
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  check_file(claim.path.lock, "precious");
  CHECK(!exists(claim.path.socket));
  CHECK_STATUS(0, unlink(claim.path.lock));
  in_sandbox(target, "target");
  CHECK_STATUS(0, symlink(target, claim.path.lock)); /* to nothing */
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  CHECK(exists(claim.path.lock) && !exists(target));
  put_file(target, ""); /* to what could be a lock */
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  CHECK(exists(claim.path.lock) && exists(target));
  CHECK_STATUS(0, unlink(claim.path.lock));
  CHECK_STATUS(0, mkdir(claim.path.lock, 0700));
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  CHECK_STATUS(0, rmdir(claim.path.lock));
  CHECK_STATUS(0, mkfifo(claim.path.lock, 0600));
  CHECK_STATUS(UV_EEXIST, claim_status("x"));
  CHECK(exists(claim.path.lock));
  CHECK_STATUS(0, unlink(claim.path.lock));
  CHECK_STATUS(0, claim_status("x"));
}

/* Who took the place of our socket keeps it. */
static void nm6_drop_removes_only_its_own_socket(void** state) {
  int fd = -1;
  npi_claim claim = claim_of("x");
  char aside[128];
  (void) state;
  in_sandbox(aside, "aside"); /* so that its inode is not used again */
  CHECK_STATUS(0, npi_claim_take(&claim, 0600, &fd));
  CHECK_STATUS(0, rename(claim.path.socket, aside));
  put_file(claim.path.socket, "precious");
  npi_claim_drop(&claim);
  npi_sock_close(fd);
  check_file(claim.path.socket, "precious");
  CHECK(!exists(claim.path.lock));
}

static void the_socket_has_the_mode(void** state) {
  static const mode_t modes[] = {0600, 0660, 0666};
  static const mode_t masks[] = {0, 022, 077};
  struct stat info;
  struct stat lock;
  (void) state;
  for (size_t i = 0; i < 9; i++) {
    int fd = -1;
    npi_claim claim = claim_of("x");
    mode_t mask = umask(masks[i / 3]);
    int err = npi_claim_take(&claim, modes[i % 3], &fd);
    umask(mask);
    CHECK_STATUS(0, err);
    CHECK_STATUS(0, lstat(claim.path.socket, &info));
    CHECK_STATUS(0, lstat(claim.path.lock, &lock));
    CHECK(S_ISSOCK(info.st_mode));
    CHECK_SIZE(modes[i % 3], info.st_mode & 07777u);
    CHECK_SIZE(0600, lock.st_mode & 07777u);
    CHECK_SIZE(0, lock.st_size);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(claim.lock_fd, F_GETFD) & FD_CLOEXEC) != 0);
    npi_claim_drop(&claim);
    npi_sock_close(fd);
  }
}

static void a_missing_directory_leaves_nothing(void** state) {
  char directory[128];
  (void) state;
  in_sandbox(directory, "missing");
  setenv("NPIPE_DIR", directory, 1);
  CHECK_STATUS(UV_ENOENT, claim_status("x"));
  CHECK(!exists(directory));
}

#define PATH_TEST(function) \
  cmocka_unit_test_setup_teardown(function, sandbox_begin, sandbox_end)

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      PATH_TEST(sha256_of_the_standard),
      PATH_TEST(nm5_harmless_names_stay_readable),
      PATH_TEST(nm5_others_are_hashed),
      PATH_TEST(nm5_no_two_names_share_a_file),
      PATH_TEST(paths_of_a_name),
      PATH_TEST(nm5_directories_that_leave_no_room),
      PATH_TEST(the_environment_says_where),
      PATH_TEST(plain_paths),
      PATH_TEST(nm6_only_a_directory_of_ours_is_trusted),
      PATH_TEST(nm6_a_directory_is_made_private),
      PATH_TEST(mp2_a_live_name_is_taken_once),
      PATH_TEST(cl7_a_dead_name_is_free),
      PATH_TEST(cl7_what_is_left_of_a_dead_name),
      PATH_TEST(cl7_a_forked_copy_does_not_hold_the_name),
      PATH_TEST(nm6_a_foreign_file_is_left_alone),
      PATH_TEST(nm6_a_foreign_socket_is_left_alone),
      PATH_TEST(nm6_a_foreign_lock_is_left_alone),
      PATH_TEST(nm6_drop_removes_only_its_own_socket),
      PATH_TEST(the_socket_has_the_mode),
      PATH_TEST(a_missing_directory_leaves_nothing),
  };
  return harness_main(argc, argv, "path", tests, HARNESS_COUNT(tests), NULL);
}
