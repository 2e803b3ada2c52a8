/*
 * Between servers of one name: a member that is played by hand, strangers at
 * that door, and servers without memory. The bytes are those of "Servers of one
 * name" in docs/wire-format.md.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec.h"
#include "team.h"
#include "unix/raw_peer.h"

#define MIB16 0x1000000u

static test_host* open_shared(world* w, unsigned max) {
  npipe_server_options options = {
      .type = NPIPE_MESSAGE, .max_instances = max, .shared = 1};
  return host_open(w, &options);
}

/* ------------------------------------------------- a member by hand */

static void send_join(raw_peer* raw) {
  uint8_t frame[NPI_HELLO_BYTES_MAX];
  npi_hello join = {.version = 1, .join = true, .message_max_bytes = 1};
  npi_name name = {{0}};
  strcpy(name.text, raw->world->name);
  npi_name_fold(&name, join.name);
  raw_send(raw, frame, npi_encode_hello(frame, &join));
}

/* One frame of 16 bytes; fds gets its descriptors, their number is given
 * back. */
static int next_team(raw_peer* raw, npi_team_frame* frame, int fds[4]) {
  uint8_t bytes[NPI_TEAM_BYTES];
  union {
    struct cmsghdr align;
    char room[CMSG_SPACE(4 * sizeof(int))];
  } control;
  struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  ssize_t got = -1;
  uint64_t end = uv_hrtime() + UINT64_C(10000000000);
  while (got < 0) {
    CHECK(uv_hrtime() < end);
    raw_turn(&(raw_peer){.world = raw->world, .fd = -1});
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    got = recvmsg(raw->fd, &message, 0);
  }
  CHECK_SIZE(sizeof bytes, got);
  CHECK_STATUS(0, npi_decode_team(bytes, frame));
  struct cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (head == NULL) return 0;
  size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  memcpy(fds, CMSG_DATA(head), count * sizeof(int));
  return (int) count;
}

static void send_team(raw_peer* raw, npi_frame type, uint32_t a, uint32_t b) {
  uint8_t bytes[NPI_TEAM_BYTES];
  npi_team_frame frame = {type, a, b};
  raw_send(raw, bytes, npi_encode_team(bytes, &frame));
}

static raw_peer join(world* w) {
  npi_team_frame frame;
  int fds[4] = {-1, -1, -1, -1};
  raw_peer raw = raw_connect(w);
  send_join(&raw);
  CHECK_SIZE(2, next_team(&raw, &frame, fds));
  CHECK(frame.frame == NPI_FRAME_JOINED && frame.a == 0 && frame.b == 0);
  struct stat info; /* the listening socket, and the lock */
  CHECK(fstat(fds[0], &info) == 0 && S_ISSOCK(info.st_mode));
  CHECK(fstat(fds[1], &info) == 0 && S_ISREG(info.st_mode));
  close(fds[0]);
  close(fds[1]);
  return raw;
}

static void tm_a_member_is_sent_clients(void** state) {
  world* w = *state;
  open_shared(w, 3);
  raw_peer member = join(w);
  end_open(w, NULL); /* it has said no room yet: all go to the other one */
  test_end* second = end_open(w, NULL);
  CHECK_SIZE(3, end_info(second).max_instances);
  send_team(&member, NPI_FRAME_ROOM, 0, 2);
  world_settle(w);
  test_end* third = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  npi_team_frame take;
  int fds[4];
  CHECK_SIZE(1, next_team(&member, &take, fds));
  CHECK(take.frame == NPI_FRAME_TAKE && take.a == 3 && take.b == MIB16);
  raw_peer client = raw_of(w, fds[0]);
  raw_send_welcome(&client, NPIPE_MESSAGE, 65536);
  RAW_UNTIL(&client, third->connects > 0);
  CHECK_STATUS(0, third->connect_status);
  send_text(third, "x");
  raw_frame data = raw_next(&client);
  CHECK_SIZE(RAW_DATA, data.type);
  raw_frame_free(&data);
  /* It is not said yet that it came: the slot stays promised. */
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  send_team(&member, NPI_FRAME_ROOM, 1, 0); /* and it holds no lock for it */
  world_settle(w);
  end_open(w, NULL);
  raw_close(&client);
  raw_close(&member);
}

/* A client that is sent to a member which dies before it looks. */
static void tm_a_member_dies_with_a_client(void** state) {
  world* w = *state;
  open_shared(w, 2);
  raw_peer member = join(w);
  send_team(&member, NPI_FRAME_ROOM, 0, 5);
  world_settle(w);
  test_end* ends[2];
  for (int i = 0; i < 2; i++)
    ends[i] = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_settle(w);
  CHECK_SIZE(1, ends[0]->connects + ends[1]->connects);
  raw_close(&member);
  for (int i = 0; i < 2; i++) CHECK_STATUS(0, end_outcome(ends[i]));
}

static void tm_wrong_words_of_a_member(void** state) {
  static const struct {
    const char* what;
    const char* bytes;
  } wrong[] = {
      {"TAKE", "\x0e\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00"},
      {"JOINED",
       "\x0c\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
      {"HELLO", "\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
      {"length",
       "\x0d\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
      {"flags", "\x0d\x01\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
      {"type", "\xff\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
  };
  world* w = *state;
  test_host* host = open_shared(w, 9);
  for (size_t i = 0; i < HARNESS_COUNT(wrong); i++) {
    raw_peer member = join(w);
    watchdog_step(wrong[i].what);
    raw_send(&member, wrong[i].bytes, 16);
    raw_expect_end(&member);
    raw_close(&member);
    test_end* client = end_open(w, NULL);
    end_drop(client);
    end_drop(host_accept(host));
  }
  /* A member may say too much: it is believed as far as slots go. */
  raw_peer member = join(w);
  send_team(&member, NPI_FRAME_ROOM, 0, 0xFFFFFFFF);
  send_team(&member, NPI_FRAME_ROOM, 99, 0xFFFFFFFF); /* not heard */
  world_settle(w);
  test_end* one = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  test_end* two = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_settle(w);
  CHECK_SIZE(1, one->connects + two->connects);
  raw_close(&member);
  CHECK_STATUS(0, end_outcome(one));
  CHECK_STATUS(0, end_outcome(two));
}

static void tm_who_may_not_join(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  raw_peer raw = raw_connect(w);
  send_join(&raw);
  CHECK_SIZE(5, raw_refusal(&raw)); /* it does not share */
  raw_close(&raw);
  host_shut(host);
  open_shared(w, 3);
  raw_peer members[NPI_MEMBERS_MAX];
  for (unsigned i = 0; i < NPI_MEMBERS_MAX; i++) members[i] = join(w);
  raw = raw_connect(w);
  send_join(&raw);
  CHECK_SIZE(5, raw_refusal(&raw));
  raw_close(&raw);
  for (unsigned i = 0; i < NPI_MEMBERS_MAX; i++) raw_close(&members[i]);
}

static void tm_another_user_may_not_join(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  unsigned uid = 0;
  unsigned gid = 0;
  if (!os_other_user(&uid, &gid))
    SKIP_BECAUSE("not root", "it cannot be another user");
  npipe_server_options options = {.allow = NPIPE_ALLOW_EVERYONE, .shared = 1};
  host_open(w, &options);
  raw_path(w, path);
  raw_peer raw = raw_of(w, raw_connect_fd(path, (uid_t) uid));
  send_join(&raw);
  CHECK_SIZE(5, raw_refusal(&raw));
  raw_close(&raw);
}

/* ------------------------------------------------- descriptors */

static unsigned open_files(void) {
  unsigned count = 0;
  for (int fd = 0; fd < 1024; fd++)
    if (fcntl(fd, F_GETFD) >= 0) count++;
  return count;
}

static void send_with_fds(int fd, const void* data, size_t size) {
  union {
    struct cmsghdr align;
    char room[CMSG_SPACE(3 * sizeof(int))];
  } control;
  int fds[3] = {0, 1, 2};
  struct iovec iov = {.iov_base = (void*) (uintptr_t) data, .iov_len = size};
  struct msghdr message = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof control};
  memset(&control, 0, sizeof control);
  struct cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fds);
  memcpy(CMSG_DATA(head), fds, sizeof fds);
  CHECK_SIZE(size, sendmsg(fd, &message, MSG_NOSIGNAL));
}

/* Nobody can fill a server's table of descriptors. */
static void tm_descriptors_are_not_kept(void** state) {
  world* w = *state;
  test_host* host = open_shared(w, 9);
  raw_peer member = join(w);
  raw_peer client = raw_open(w);
  test_end* end = host_accept(host);
  unsigned before = open_files();
  for (int i = 0; i < 20; i++) {
    send_with_fds(client.fd, "\x04\x03\x00\x00\x01\x00\x00\x00x", 9);
    EXPECT_TEXT(end, 8, "x", 0);
    send_with_fds(client.fd, "\x04\x03\x00\x00\x01\x00\x00\x00y", 9);
    npipe_peek_info info; /* drains the socket by another way */
    CHECK_STATUS(0, npipe_peek(end->conn, NULL, 0, &info));
    EXPECT_TEXT(end, 8, "y", 0);
  }
  CHECK_SIZE(before, open_files());
  /* Three are more than any of its frames has. */
  send_with_fds(member.fd, "\x0d\0\0\0\x08\0\0\0\0\0\0\0\0\0\0", 16);
  raw_expect_end(&member);
  CHECK_SIZE(before - 1, open_files());
  raw_close(&member);
  raw_close(&client);
}

/* ------------------------------------------------- without memory */

static struct {
  unsigned long count;
  unsigned long fail_at;
  long outstanding;
  bool failed;
} memory;

static bool memory_fails(void) {
  if (++memory.count != memory.fail_at) return false;
  memory.failed = true;
  return true;
}

static void* memory_malloc(size_t size) {
  if (memory_fails()) return NULL;
  memory.outstanding++;
  return must_alloc(size);
}

static void* memory_realloc(void* old, size_t size) {
  if (memory_fails()) return NULL;
  if (old == NULL) memory.outstanding++;
  return must_realloc(old, size);
}

static void memory_free(void* data) {
  if (data != NULL) memory.outstanding--;
  free(data);
}

/* Two servers, three clients, the first server leaves; one allocation fails. */
static void team_once(world* w) {
  npipe_server_options options = {
      .type = NPIPE_MESSAGE, .max_instances = 3, .shared = 1};
  test_host* hosts[2] = {NULL, NULL};
  test_end* end;
  for (int i = 0; i < 2; i++) {
    int status = host_try(w, w->name, &options, &hosts[i]);
    if (status != 0) CHECK_STATUS(UV_ENOMEM, status);
  }
  world_run_for(w, 30);
  for (int i = 0; i < 4; i++) {
    int status = end_try(w, w->name, 500, NULL, &end);
    if (status != 0) CHECK_STATUS(UV_ENOMEM, status);
    if (status == 0) RUN_UNTIL(w, end->connects > 0);
    if (i == 2 && hosts[0] != NULL) host_close(hosts[0]);
    if (i == 2 && end != NULL) end_close(end);
  }
}

static void tm_each_allocation_fails_once(void** state) {
  unsigned long at = 0;
  do {
    CHECK_STATUS(0, world_teardown(state));
    long before = memory.outstanding;
    CHECK_STATUS(0, world_setup(state));
    memory.count = 0;
    memory.failed = false;
    memory.fail_at = ++at;
    team_once(*state);
    memory.fail_at = 0;
    CHECK_STATUS(0, world_teardown(state));
    if (at > 1) CHECK_SIZE(before, memory.outstanding);
    CHECK_STATUS(0, world_setup(state));
  } while (memory.failed);
  print_message("%lu allocations failed, one by one\n", at - 1);
  CHECK(at > 20);
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(tm_a_member_is_sent_clients),   TEST(tm_a_member_dies_with_a_client),
      TEST(tm_wrong_words_of_a_member),    TEST(tm_who_may_not_join),
      TEST(tm_another_user_may_not_join),  TEST(tm_descriptors_are_not_kept),
      TEST(tm_each_allocation_fails_once),
  };
  npipe_replace_allocator(memory_malloc, memory_realloc, memory_free);
  return raw_main(argc, argv, "team", tests, HARNESS_COUNT(tests));
}
