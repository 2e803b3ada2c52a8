/*
 * The file of a shared name and its locks: share.h. Two npi_share in one
 * process are as two processes to each other; a child of fork() shows what is
 * left when one dies.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "share.h"
#include "unix/raw_peer.h"

static void share_path(const world* w, char path[RAW_PATH_BYTES]) {
  int length =
      snprintf(path, RAW_PATH_BYTES, "%s/%s.share", raw_directory(), w->name);
  CHECK(length > 0 && length < RAW_PATH_BYTES);
}

static npipe_server_options some_options(unsigned max) {
  return (npipe_server_options){.type = NPIPE_MESSAGE,
                                .direction = NPIPE_INBOUND,
                                .allow = NPIPE_ALLOW_GROUP,
                                .unix_mode = 0640,
                                .max_instances = max,
                                .default_wait_ms = 70,
                                .message_max_bytes = 12345};
}

/* The first server's, made and alive. */
static npi_share share_first(const char* path, unsigned max) {
  npi_share share;
  npipe_server_options options = some_options(max);
  CHECK_STATUS(0, npi_share_open(&share, path, true));
  CHECK_STATUS(0, npi_share_alone(&share));
  CHECK_STATUS(0, npi_share_write(&share, &options));
  CHECK_STATUS(0, npi_share_live(&share));
  return share;
}

static npi_share share_other(const char* path) {
  npi_share share;
  npipe_server_options options = {0};
  npipe_type type;
  npipe_direction direction;
  CHECK_STATUS(0, npi_share_open(&share, path, false));
  CHECK_STATUS(0, npi_share_live(&share));
  CHECK_STATUS(0, npi_share_read(&share, &options, &type, &direction));
  return share;
}

static void sh_what_the_first_decided(void** state) {
  char path[RAW_PATH_BYTES];
  share_path(*state, path);
  npi_share first = share_first(path, 7);
  npipe_server_options read = {.in_quota = 9, .shared = 1};
  npipe_type type = NPIPE_BYTE;
  npipe_direction direction = NPIPE_DUPLEX;
  npi_share second = share_other(path);
  CHECK_STATUS(0, npi_share_read(&second, &read, &type, &direction));
  npipe_server_options wrote = some_options(7);
  CHECK(type == wrote.type && direction == wrote.direction);
  CHECK(read.allow == wrote.allow && read.unix_mode == wrote.unix_mode);
  CHECK_SIZE(7, read.max_instances);
  CHECK_SIZE(70, read.default_wait_ms);
  CHECK_SIZE(12345, read.message_max_bytes);
  CHECK(read.in_quota == 9 && read.shared == 1); /* its own */
  struct stat info;
  CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
  npi_share_close(&second);
  npi_share_close(&first);
  CHECK(unlink(path) == 0);
}

/* Each field out of its range, and other lengths. */
static void sh_a_file_is_checked(void** state) {
  char path[RAW_PATH_BYTES];
  unsigned char good[40];
  npipe_server_options options = {0};
  npipe_type type;
  npipe_direction direction;
  share_path(*state, path);
  npi_share share = share_first(path, 7);
  CHECK(pread(share.fd, good, sizeof good, 0) == 40);
  for (size_t at = 0; at < sizeof good; at += 4) {
    unsigned char bad[4] = {0xFF, 0xFF, 0xFF, 0xFF};
    CHECK(pwrite(share.fd, bad, 4, (off_t) at) == 4);
    bool free_choice = at == 28; /* default_wait_ms */
    CHECK_STATUS(free_choice ? 0 : UV_EEXIST,
                 npi_share_read(&share, &options, &type, &direction));
    CHECK(pwrite(share.fd, good, sizeof good, 0) == 40);
  }
  CHECK(ftruncate(share.fd, 39) == 0);
  CHECK_STATUS(UV_EEXIST, npi_share_read(&share, &options, &type, &direction));
  npi_share_close(&share);
  CHECK_STATUS(UV_EEXIST, npi_share_open(&share, path, true));
  CHECK(npi_share_remove(path)); /* nobody shares it, and it is left alone */
  CHECK(unlink(path) == 0);
  CHECK_STATUS(UV_ENOENT, npi_share_open(&share, path, false));
  CHECK(symlink("/dev/null", path) == 0);
  CHECK_STATUS(UV_EEXIST, npi_share_open(&share, path, true));
  CHECK(unlink(path) == 0);
}

static void sh_alive_and_alone(void** state) {
  char path[RAW_PATH_BYTES];
  share_path(*state, path);
  CHECK(!npi_share_lives(path));
  npi_share one = share_first(path, 7);
  CHECK(npi_share_lives(path) && !npi_share_others(&one));
  CHECK(!npi_share_remove(path));
  npi_share two = share_other(path);
  CHECK(npi_share_others(&one) && npi_share_others(&two));
  CHECK_STATUS(UV_EAGAIN, npi_share_alone(&one)); /* it leaves */
  CHECK(!npi_share_others(&two));
  npi_share three = share_other(path);
  CHECK_STATUS(UV_EAGAIN, npi_share_alone(&three));
  CHECK_STATUS(0, npi_share_alone(&two)); /* of both, the later one */
  CHECK_STATUS(UV_EAGAIN, npi_share_live(&one));
  npi_share_close(&two);
  CHECK_STATUS(0, npi_share_live(&one));
  npi_share_close(&one);
  npi_share_close(&three);
  CHECK(!npi_share_lives(path));
  CHECK(npi_share_remove(path));
  CHECK(access(path, F_OK) != 0);
}

static void sh_one_leads(void** state) {
  char path[RAW_PATH_BYTES];
  share_path(*state, path);
  npi_share one = share_first(path, 7);
  npi_share two = share_other(path);
  CHECK_STATUS(0, npi_share_lead(&one));
  CHECK_STATUS(UV_EAGAIN, npi_share_lead(&two));
  npi_share_unlead(&one);
  CHECK_STATUS(0, npi_share_lead(&two));
  CHECK_STATUS(UV_EAGAIN, npi_share_lead(&one));
  npi_share_close(&two);
  CHECK_STATUS(0, npi_share_lead(&one));
  npi_share_close(&one);
  CHECK(unlink(path) == 0);
}

static void sh_slots(void** state) {
  char path[RAW_PATH_BYTES];
  share_path(*state, path);
  npi_share one = share_first(path, 4);
  npi_share two = share_other(path);
  const void* taken[NPI_SLOTS_MAX + 1] = {NULL};
  CHECK_SIZE(4, npi_share_slots_free(&two, taken));
  CHECK_STATUS(0, npi_share_slot_take(&one, 1));
  CHECK_STATUS(UV_EAGAIN, npi_share_slot_take(&two, 1));
  CHECK_STATUS(UV_EINVAL, npi_share_slot_take(&one, 1)); /* not twice */
  CHECK_STATUS(UV_EINVAL, npi_share_slot_take(&one, 0));
  CHECK_STATUS(UV_EINVAL, npi_share_slot_take(&one, 5));
  CHECK_SIZE(2, npi_share_slot_find(&one, taken));
  CHECK_SIZE(2, npi_share_slot_find(&two, taken));
  taken[2] = &one;
  CHECK_SIZE(3, npi_share_slot_find(&two, taken));
  CHECK_SIZE(2, npi_share_slots_free(&two, taken));
  CHECK_STATUS(0, npi_share_slot_take(&two, 3));
  CHECK_STATUS(0, npi_share_slot_take(&two, 4));
  CHECK_SIZE(0, npi_share_slot_find(&one, taken));
  npi_share_slot_free(&two, 1); /* not its own */
  CHECK_SIZE(0, npi_share_slot_find(&two, taken));
  npi_share_slot_free(&two, 3);
  CHECK_SIZE(3, npi_share_slot_find(&one, taken));
  npi_share_close(&two);
  CHECK_SIZE(2, npi_share_slots_free(&one, taken));
  npi_share_close(&one);
  CHECK(unlink(path) == 0);
}

static void sh_without_a_limit_there_are_no_slots(void** state) {
  char path[RAW_PATH_BYTES];
  share_path(*state, path);
  npi_share share = share_first(path, NPIPE_INSTANCES_UNLIMITED);
  CHECK_SIZE(0, npi_share_slot_find(&share, NULL));
  CHECK_STATUS(UV_EINVAL, npi_share_slot_take(&share, 1));
  npi_share_close(&share);
  share = share_first(path, 254);
  CHECK_SIZE(254, npi_share_slots_free(&share, NULL));
  CHECK_STATUS(0, npi_share_slot_take(&share, 254));
  npi_share_close(&share);
  CHECK(unlink(path) == 0);
}

static void sh_a_death_frees_its_own(void** state) {
  char path[RAW_PATH_BYTES];
  int ready[2];
  char byte;
  share_path(*state, path);
  npi_share one = share_first(path, 6);
  CHECK_STATUS(0, npi_share_slot_take(&one, 1));
  CHECK(pipe(ready) == 0);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    npi_share mine; /* an open file of its own */
    bool good = npi_share_open(&mine, path, false) == 0 &&
                npi_share_live(&mine) == 0 && npi_share_lead(&mine) == 0;
    mine.slots = 6;
    for (unsigned slot = 2; slot <= 5; slot++)
      good = good && npi_share_slot_take(&mine, slot) == 0;
    if (!good || write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  CHECK(read(ready[0], &byte, 1) == 1);
  CHECK_SIZE(1, npi_share_slots_free(&one, NULL));
  CHECK(npi_share_others(&one));
  CHECK_STATUS(UV_EAGAIN, npi_share_lead(&one));
  CHECK(kill(pid, SIGKILL) == 0);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK_SIZE(5, npi_share_slots_free(&one, NULL));
  CHECK(!npi_share_others(&one));
  CHECK_STATUS(0, npi_share_lead(&one));
  close(ready[0]);
  close(ready[1]);
  npi_share_close(&one);
  CHECK(unlink(path) == 0);
}

/* ------------------------------------------------- with servers */

/* All died: what they left does not stand in the way, shared or not. */
static void sh_a_dead_name_is_made_anew(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  share_path(w, path);
  for (int shared = 0; shared < 2; shared++) {
    npi_share dead = share_first(path, 1);
    CHECK_STATUS(0, npi_share_slot_take(&dead, 1));
    close(dead.fd); /* as the kernel does */
    npipe_server_options options = {.shared = shared};
    test_host* host = host_open(w, &options);
    test_end* client = end_open(w, NULL);
    CHECK(npipe_get_type(client->conn) == NPIPE_BYTE);
    host_accept(host);
    CHECK((access(path, F_OK) == 0) == (shared != 0));
    CHECK_STATUS(0, world_teardown(state));
    CHECK(access(path, F_OK) != 0);
    CHECK_STATUS(0, world_setup(state));
    w = *state;
    share_path(w, path);
  }
}

/* A server that was created, and whose others died before it had joined. */
static void sh_a_live_name_is_not_taken(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  test_host* host;
  share_path(w, path);
  npi_share alive = share_first(path, 5);
  CHECK_STATUS(UV_EADDRINUSE, host_try(w, w->name, NULL, &host));
  npipe_server_options options = {.type = NPIPE_MESSAGE, .shared = 1};
  CHECK_STATUS(UV_EACCES, host_try(w, w->name, &options, &host));
  options.direction = NPIPE_INBOUND;
  CHECK_STATUS(0, host_try(w, w->name, &options, &host)); /* it joins */
  npipe_client_options client = {.access = NPIPE_WRITE_ONLY};
  end_open(w, &client); /* and makes the socket, as nobody else does */
  CHECK_SIZE(5, end_info(host_accept(host)).max_instances);
  host_close(host);
  CHECK_STATUS(0, world_teardown(state)); /* it has left, the name lives */
  CHECK(npi_share_lives(path));
  npi_share_close(&alive);
  CHECK(unlink(path) == 0);
  static const char* const suffixes[] = {"pipe", "lock"};
  for (int i = 0; i < 2; i++) {
    memcpy(path + strlen(path) - (i == 0 ? 5 : 4), suffixes[i], 5);
    CHECK(unlink(path) == 0);
  }
  CHECK_STATUS(0, world_setup(state));
}

static void sh_a_foreign_file_is_left_alone(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  test_host* host;
  share_path(w, path);
  FILE* file = fopen(path, "w");
  CHECK(file != NULL && fputs("somebody's letters", file) >= 0);
  fclose(file);
  npipe_server_options options = {.shared = 1};
  CHECK_STATUS(UV_EEXIST, host_try(w, w->name, &options, &host));
  CHECK_STATUS(0, host_try(w, w->name, NULL, &host)); /* needs no such file */
  host_shut(host);
  struct stat info;
  CHECK(stat(path, &info) == 0 && info.st_size == 18);
  CHECK(unlink(path) == 0);
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(sh_what_the_first_decided),
      TEST(sh_a_file_is_checked),
      TEST(sh_alive_and_alone),
      TEST(sh_one_leads),
      TEST(sh_slots),
      TEST(sh_without_a_limit_there_are_no_slots),
      TEST(sh_a_death_frees_its_own),
      TEST(sh_a_dead_name_is_made_anew),
      TEST(sh_a_live_name_is_not_taken),
      TEST(sh_a_foreign_file_is_left_alone),
  };
  return raw_main(argc, argv, "share", tests, HARNESS_COUNT(tests));
}
