/*
 * WR3 to WR6: a write is done when what is unread up to its end is within the
 * quota; its data can be read before. And what that promises of memory: a
 * reader that does not read keeps the quota and one message, whatever is
 * written.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { QUOTA = 5000 };

/* A pair of the type whose writer is self; both quotas as given. */
static test_ends pair_with(world* w, npipe_type type, uint32_t quota,
                           int near_is_server, test_pair* pair) {
  npipe_server_options options = {
      .type = type, .in_quota = quota, .out_quota = quota};
  *pair = pair_open(w, &options, NULL);
  return pair_ends(pair, near_is_server);
}

static int is_pending(test_task* task) {
  world_settle(task->world);
  return task->calls == 0;
}

/* ------------------------------------------------- WR3 */

/* The story of the rule, word by word. */
static void wr3_story(world* w, npipe_type type, int near_is_server) {
  test_pair pair;
  test_ends e = pair_with(w, type, QUOTA, near_is_server, &pair);
  send_pattern(e.self, 3000, 1);
  test_task* second = write_pattern(e.self, 5000, 2);
  CHECK(is_pending(second)); /* 8000 */
  CHECK_SIZE(5000, npipe_queued_bytes(e.self->conn));
  expect_pattern_bytes(e.peer, 3000, 3000, 1);
  CHECK_STATUS(0, task_outcome(second)); /* 5000 */
  test_task* third = write_pattern(e.self, 1, 3);
  CHECK(is_pending(third)); /* 5001 */
  expect_pattern_bytes(e.peer, 1, 1, 2);
  CHECK_STATUS(0, task_outcome(third)); /* 5000 */
  test_task* rest = read_begin(e.peer, 4999);
  CHECK_STATUS(0, task_outcome(rest));
  CHECK_SIZE(4999, rest->size);
  CHECK(pattern_holds(rest->data, 4999, 2, 1));
  expect_pattern_bytes(e.peer, 1, 1, 3);

  test_task* big = write_pattern(e.self, 7000, 4); /* no limit of a message */
  CHECK(is_pending(big));
  test_task* part = read_begin(e.peer, 1999);
  CHECK_STATUS(0, task_outcome(part));
  CHECK_SIZE(type == NPIPE_MESSAGE ? NPIPE_MORE : 0, part->flags);
  CHECK(is_pending(big)); /* 5001 */
  test_task* one = read_begin(e.peer, 1);
  CHECK_STATUS(0, task_outcome(one));
  CHECK_STATUS(0, task_outcome(big)); /* 5000 */
  CHECK_SIZE(0, npipe_queued_bytes(e.self->conn));
  CHECK_SIZE(5000, peek_available(e.peer));
  pair_shut(&pair);
}

static void wr3_quota_client_to_server(void** state) {
  wr3_story(*state, NPIPE_BYTE, 0);
  wr3_story(*state, NPIPE_MESSAGE, 0);
}

static void wr3_quota_server_to_client(void** state) {
  wr3_story(*state, NPIPE_BYTE, 1);
  wr3_story(*state, NPIPE_MESSAGE, 1);
}

/* Each direction has its own: in is that of the server's reading. */
static void wr3_each_direction_has_its_own_quota(void** state) {
  world* w = *state;
  npipe_server_options options = {
      .type = NPIPE_MESSAGE, .in_quota = 100, .out_quota = 300};
  test_pair pair = pair_open(w, &options, NULL);
  send_pattern(pair.client, 100, 1);
  CHECK(is_pending(write_pattern(pair.client, 1, 2)));
  send_pattern(pair.server, 300, 3);
  CHECK(is_pending(write_pattern(pair.server, 1, 4)));
}

static void wr3_exactly_the_quota_is_within_it(void** state) {
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair;
    test_ends e = pair_with(w, (npipe_type) (way % 2), QUOTA, way / 2, &pair);
    for (uint32_t i = 0; i < 5; i++) send_pattern(e.self, QUOTA / 5, i);
    test_task* beyond = write_pattern(e.self, 1, 9);
    CHECK(is_pending(beyond));
    expect_pattern_bytes(e.peer, QUOTA / 5, QUOTA / 5, 0);
    CHECK_STATUS(0, task_outcome(beyond));
    pair_shut(&pair);
  }
}

/* Each of many pending writes ends when it is its turn and no sooner. */
static void wr3_pending_writes_end_in_their_order(void** state) {
  enum { WRITES = 10, SIZE = 2500 };
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair;
    test_ends e = pair_with(w, (npipe_type) (way % 2), QUOTA, way / 2, &pair);
    test_task* writes[WRITES];
    for (uint32_t i = 0; i < WRITES; i++)
      writes[i] = write_pattern(e.self, SIZE, i);
    for (uint32_t read = 0; read < WRITES; read++) {
      uint32_t done = read + 2 < WRITES ? read + 2 : WRITES;
      for (uint32_t i = 0; i < done; i++)
        CHECK_STATUS(0, task_outcome(writes[i]));
      if (done < WRITES) CHECK(is_pending(writes[done]));
      expect_pattern_bytes(e.peer, SIZE, SIZE, read);
    }
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- WR4 */

static void wr4_a_pending_write_can_be_peeked_and_read(void** state) {
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair;
    test_ends e = pair_with(w, (npipe_type) (way % 2), 100, way / 2, &pair);
    test_task* write = write_pattern(e.self, 1000, 1);
    CHECK(is_pending(write));
    CHECK_SIZE(1000, peek_available(e.peer));
    expect_pattern_bytes(e.peer, 1000, 1000, 1);
    CHECK_STATUS(0, task_outcome(write));
    pair_shut(&pair);
  }
}

/* A read merges what is in the pipe and what is pending. */
static void wr4_a_byte_read_merges_what_is_pending(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair;
    test_ends e = pair_with(w, NPIPE_BYTE, 4, near_is_server, &pair);
    send_text(e.self, "abc");
    test_task* write = write_begin(e.self, "defgh", 5);
    CHECK(is_pending(write));
    EXPECT_TEXT(e.peer, 16, "abcdefgh", 0);
    CHECK_STATUS(0, task_outcome(write));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- WR5: rendezvous */

static void wr5_quota_0_waits_for_the_reader(void** state) {
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair;
    test_ends e =
        pair_with(w, (npipe_type) (way % 2), NPIPE_QUOTA_ZERO, way / 2, &pair);
    test_task* write = write_begin(e.self, "abcd", 4);
    CHECK(is_pending(write));
    EXPECT_TEXT(e.peer, 3, "abc", way % 2 ? NPIPE_MORE : 0);
    CHECK(is_pending(write)); /* one byte is unread */
    EXPECT_TEXT(e.peer, 3, "d", 0);
    CHECK_STATUS(0, task_outcome(write));
    pair_shut(&pair);
  }
}

static void wr5_a_read_that_is_pending_takes_it_at_once(void** state) {
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair;
    test_ends e =
        pair_with(w, (npipe_type) (way % 2), NPIPE_QUOTA_ZERO, way / 2, &pair);
    test_task* read = read_begin(e.peer, 8);
    world_settle(w);
    CHECK_STATUS(0, task_outcome(write_begin(e.self, "abcd", 4)));
    CHECK_STATUS(0, task_outcome(read));
    TASK_READ_TEXT(read, "abcd", 0);
    read = read_begin(e.peer, 0); /* takes nothing (RD8) */
    test_task* write = write_begin(e.self, "x", 1);
    CHECK_STATUS(0, task_outcome(read));
    CHECK(is_pending(write));
    test_stream* stream = stream_begin(e.peer, 0);
    CHECK_STATUS(0, task_outcome(write));
    for (uint32_t i = 0; i < 50; i++) send_pattern(e.self, i * 100, i);
    CHECK(stream->size > 0);
    pair_shut(&pair);
  }
}

static void wr5_the_option_0_is_64_kib(void** state) {
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair;
    test_ends e = pair_with(w, (npipe_type) (way % 2), 0, way / 2, &pair);
    send_pattern(e.self, NPIPE_QUOTA_DEFAULT_BYTES, 1);
    test_task* beyond = write_begin(e.self, "x", 1);
    CHECK(is_pending(beyond));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- WR6 */

/* An empty message takes no room; alone it is never held back. */
static void wr6_an_empty_message_needs_no_quota(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair;
    test_ends e =
        pair_with(w, NPIPE_MESSAGE, NPIPE_QUOTA_ZERO, near_is_server, &pair);
    for (int i = 0; i < 3; i++) send_text(e.self, "");
    for (int i = 0; i < 3; i++) EXPECT_TEXT(e.peer, 8, "", 0);
    pair_shut(&pair);
    e = pair_with(w, NPIPE_MESSAGE, 100, near_is_server, &pair);
    send_pattern(e.self, 100, 1); /* full */
    send_text(e.self, "");
    CHECK(is_pending(write_begin(e.self, "x", 1)));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- memory */

static struct {
  uv_mutex_t lock;
  size_t now;
  size_t most;
} memory;

typedef union memory_head {
  size_t size;
  long double alignment;
  void* pointer;
} memory_head;

static void* counted_malloc(size_t size) {
  memory_head* head = malloc(sizeof *head + size);
  if (head == NULL) return NULL;
  head->size = size;
  uv_mutex_lock(&memory.lock);
  memory.now += size;
  if (memory.now > memory.most) memory.most = memory.now;
  uv_mutex_unlock(&memory.lock);
  return head + 1;
}

static void counted_free(void* data) {
  if (data == NULL) return;
  memory_head* head = (memory_head*) data - 1;
  uv_mutex_lock(&memory.lock);
  memory.now -= head->size;
  uv_mutex_unlock(&memory.lock);
  free(head);
}

static void* counted_realloc(void* old, size_t size) {
  void* data = counted_malloc(size);
  if (data == NULL || old == NULL) return data;
  size_t old_size = ((memory_head*) old - 1)->size;
  memcpy(data, old, old_size < size ? old_size : size);
  counted_free(old);
  return data;
}

typedef struct flood {
  char* data;
  size_t size;
  unsigned done;
} flood;

static void flood_on_write(npipe_conn* conn, int status, void* arg) {
  (void) conn;
  (void) status;
  ((flood*) arg)->done++;
}

/* A thousand messages of 1 MiB, of which none is read: both ends live in this
 * process, so what the library holds for the reader is counted with what it
 * holds for the writer. A write borrows its data, so they may all have one. */
static void wr4_memory_is_bounded_whatever_is_written(void** state) {
  /* ROOM: a message that grows while it arrives takes half as much again for a
   * moment; and each write that is pending is an operation. */
  enum { MESSAGE = 1 << 20, WRITES = 1000, ROOM = 2 << 20 };
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair;
    test_ends e = pair_with(w, (npipe_type) (way % 2), 0, way / 2, &pair);
    flood all = {.data = must_alloc(MESSAGE), .size = MESSAGE};
    pattern_fill(all.data, MESSAGE, 1);
    uv_buf_t buf = uv_buf_init(all.data, MESSAGE);
    size_t before = memory.most = memory.now;
    for (int i = 0; i < WRITES; i++)
      CHECK_STATUS(0, CALL(w, npipe_write(e.self->conn, &buf, 1, NULL,
                                          flood_on_write, &all)));
    world_run_for(w, 300);
    CHECK_SIZE(0, all.done);
    CHECK_SIZE((size_t) WRITES * MESSAGE, npipe_queued_bytes(e.self->conn));
    size_t held = memory.most - before;
    if (held >= NPIPE_QUOTA_DEFAULT_BYTES + MESSAGE + ROOM)
      fail_msg("%zu bytes are held", held);
    expect_pattern_bytes(e.peer, MESSAGE, MESSAGE, 1); /* and it goes on */
    RUN_UNTIL(w, all.done == 1);
    pair_shut(&pair);
    CHECK_SIZE(WRITES, all.done);
    free(all.data);
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(wr3_quota_client_to_server),
      TEST(wr3_quota_server_to_client),
      TEST(wr3_each_direction_has_its_own_quota),
      TEST(wr3_exactly_the_quota_is_within_it),
      TEST(wr3_pending_writes_end_in_their_order),
      TEST(wr4_a_pending_write_can_be_peeked_and_read),
      TEST(wr4_a_byte_read_merges_what_is_pending),
      TEST(wr5_quota_0_waits_for_the_reader),
      TEST(wr5_a_read_that_is_pending_takes_it_at_once),
      TEST(wr5_the_option_0_is_64_kib),
      TEST(wr6_an_empty_message_needs_no_quota),
      TEST(wr4_memory_is_bounded_whatever_is_written),
  };
  if (uv_mutex_init(&memory.lock) != 0) return 1;
  if (npipe_replace_allocator(counted_malloc, counted_realloc, counted_free))
    return 1;
  return harness_main(argc, argv, "quota", tests, HARNESS_COUNT(tests), NULL);
}
