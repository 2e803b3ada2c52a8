/*
 * FL1 to FL5: a flush waits until the peer's program has read all that was
 * written before it. That the peer's library has it is not enough.
 */
#include <string.h>

#include "harness.h"

#define BIG ((size_t) 1024 * 1024) /* beyond every quota and buffer */

static test_task* flush(test_end* end) {
  return flush_begin(end, NPIPE_WAIT_FOREVER);
}

/* A pair of each type, and each end in turn as the one that flushes. */
static test_ends ends_of(world* w, int way, test_pair* pair) {
  *pair = pair_of(w, (npipe_type) (way % 2));
  return pair_ends(pair, way / 2);
}

#define WAYS 4

static void fl1_nothing_unread_is_over_at_once(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    CHECK_STATUS(0, task_outcome(flush_begin(e.self, 0)));
    send_text(e.self, "x");
    EXPECT_TEXT(e.peer, 8, "x", 0);
    CHECK_STATUS(0, task_outcome(flush(e.self)));
    send_text(e.peer, "unread"); /* the other direction does not matter */
    CHECK_STATUS(0, task_outcome(flush(e.self)));
    pair_shut(&pair);
  }
}

static void fl1_it_waits_until_the_program_has_read(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "abcdef");
    test_task* task = flush(e.self);
    world_settle(w); /* the peer's library has it by now */
    CHECK_SIZE(0, task->calls);
    CHECK_SIZE(6, peek_available(e.peer));
    world_settle(w); /* to look is not to read */
    CHECK_SIZE(0, task->calls);
    EXPECT_TEXT(e.peer, 4, "abcd", way % 2 ? NPIPE_MORE : 0);
    world_settle(w); /* a part is not all */
    CHECK_SIZE(0, task->calls);
    EXPECT_STATUS(e.peer, 0, 0); /* a read of 0 bytes takes none (RD8) */
    world_settle(w);
    CHECK_SIZE(0, task->calls);
    EXPECT_TEXT(e.peer, 4, "ef", 0);
    CHECK_STATUS(0, task_outcome(task));
    pair_shut(&pair);
  }
}

static void fl1_a_stream_reads(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    size_t total = 0;
    for (uint32_t i = 0; i < 40; i++) {
      write_pattern(e.self, i * 700, i);
      total += i * 700;
    }
    test_task* task = flush(e.self);
    world_settle(w);
    CHECK_SIZE(0, task->calls);
    test_stream* stream = stream_begin(e.peer, 0);
    CHECK_STATUS(0, task_outcome(task));
    CHECK_SIZE(total, stream->size); /* all was shown before */
    pair_shut(&pair);
  }
}

static void fl1_pending_writes_are_included(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    test_task* first = write_pattern(e.self, BIG, 1);
    test_task* second = write_pattern(e.self, 1000, 2);
    test_task* task = flush(e.self);
    world_settle(w);
    CHECK_SIZE(0, task->calls + first->calls + second->calls);
    expect_pattern_bytes(e.peer, BIG, BIG, 1);
    CHECK_STATUS(0, task_outcome(second));
    world_settle(w);
    CHECK_SIZE(0, task->calls);
    expect_pattern_bytes(e.peer, 1000, 1000, 2);
    CHECK_STATUS(0, task_outcome(task));
    CHECK(task->stamp > second->stamp);
    pair_shut(&pair);
  }
}

static void fl1_empty_messages_are_included(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_ends e = pair_ends(&pair, near_is_server);
    send_text(e.self, "");
    send_text(e.self, "");
    test_task* task = flush(e.self);
    world_settle(w);
    CHECK_SIZE(0, task->calls);
    EXPECT_TEXT(e.peer, 8, "", 0);
    world_settle(w);
    CHECK_SIZE(0, task->calls);
    EXPECT_TEXT(e.peer, 8, "", 0);
    CHECK_STATUS(0, task_outcome(task));
    pair_shut(&pair);
  }
}

/* Only what was written before the call counts. */
static void fl1_later_writes_do_not_matter(void** state) {
  SKIP_IF_WINE_DIFFERS("FL1");
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "before");
    test_task* task = flush(e.self);
    send_text(e.self, "behind");
    EXPECT_TEXT(e.peer, 6, "before", 0);
    CHECK_STATUS(0, task_outcome(task));
    CHECK_STATUS(UV_ETIMEDOUT, task_outcome(flush_begin(e.self, 30)));
    pair_shut(&pair);
  }
}

static void fl1_several_end_in_their_order(void** state) {
  enum { FLUSHES = 5 };
  SKIP_IF_WINE_DIFFERS("FL1");
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    test_task* tasks[FLUSHES];
    for (uint32_t i = 0; i < FLUSHES; i++) {
      write_pattern(e.self, 3000, i);
      tasks[i] = flush(e.self);
      if (i == 2) CHECK(flush(e.self) != NULL); /* two at one place */
    }
    for (uint32_t i = 0; i < FLUSHES; i++) {
      world_settle(w);
      for (uint32_t k = i; k < FLUSHES; k++) CHECK_SIZE(0, tasks[k]->calls);
      expect_pattern_bytes(e.peer, 3000, 3000, i);
      CHECK_STATUS(0, task_outcome(tasks[i]));
    }
    pair_shut(&pair);
  }
}

static void fl2_both_ends_at_once(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    write_pattern(pair.server, BIG, 1);
    write_pattern(pair.client, BIG, 2);
    test_task* out = flush(pair.server);
    test_task* in = flush(pair.client);
    world_settle(w);
    CHECK_SIZE(0, in->calls + out->calls);
    test_stream* at_client = stream_begin(pair.client, 0);
    CHECK_STATUS(0, task_outcome(out));
    CHECK_SIZE(BIG, at_client->size);
    CHECK_SIZE(0, in->calls);
    stream_begin(pair.server, 0);
    CHECK_STATUS(0, task_outcome(in));
    pair_shut(&pair);
  }
}

/* One who never reads is waited for, and everything else goes on. */
static void fl2_a_flush_does_not_block_the_loop(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  send_text(pair.client, "never read");
  test_task* task = flush(pair.client);
  for (int i = 0; i < 20; i++) {
    send_text(pair.server, "go on");
    EXPECT_TEXT(pair.client, 8, "go on", 0);
    send_text(pair.client, "more");
  }
  test_end* other = end_open(w, NULL);
  send_text(other, "x");
  EXPECT_TEXT(host_accept(pair.host), 8, "x", 0);
  CHECK_SIZE(0, task->calls);
}

/* ------------------------------------------------- FL3, FL4 */

static void fl3_the_peer_closes(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    write_pattern(e.self, 100, 1);
    test_task* one = flush(e.self);
    write_pattern(e.self, BIG, 2);
    test_task* two = flush_begin(e.self, 60000);
    world_settle(w);
    end_shut(e.peer);
    CHECK_STATUS(UV_EPIPE, task_outcome(one));
    CHECK_STATUS(UV_EPIPE, task_outcome(two));
    CHECK_STATUS(0, task_outcome(flush(e.self))); /* FL4 */
    pair_shut(&pair);
  }
}

/* The peer reads all of it and closes: that is a success. */
static void fl3_the_peer_reads_and_closes(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "last");
    test_task* task = flush(e.self);
    EXPECT_TEXT(e.peer, 4, "last", 0);
    end_shut(e.peer);
    CHECK_STATUS(0, task_outcome(task));
    pair_shut(&pair);
  }
}

static void fl3_the_server_disconnects(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "unread");
    test_task* task = flush(e.self);
    world_settle(w);
    CHECK_STATUS(0, end_disconnect(pair.server));
    CHECK_STATUS(UV_ECONNABORTED, task_outcome(task));
    pair_shut(&pair);
  }
}

static void fl4_after_the_peer_has_closed(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "lost");
    send_text(e.peer, "left");
    end_shut(e.peer);
    RUN_UNTIL(w, end_state(e.self) == NPIPE_STATE_CLOSING);
    CHECK_STATUS(0, task_outcome(flush_begin(e.self, 0)));
    EXPECT_TEXT(e.self, 8, "left", 0);
    CHECK_STATUS(0, task_outcome(flush(e.self)));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- FL5, timeout, cancel */

static void fl5_the_write_in_the_way_is_cancelled(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_ends e = pair_ends(&pair, near_is_server);
    test_task* first = write_pattern(e.self, BIG, 1); /* is under way */
    test_task* second = write_pattern(e.self, BIG, 2);
    test_task* behind = flush(e.self);
    test_task* third = write_pattern(e.self, 100, 3);
    test_task* last = flush(e.self);
    world_settle(w);
    CHECK_STATUS(0, task_cancel(second));
    CHECK_STATUS(UV_ECANCELED, task_outcome(second));
    expect_pattern_bytes(e.peer, BIG, BIG, 1);
    CHECK_STATUS(0, task_outcome(first));
    CHECK_STATUS(0, task_outcome(behind)); /* all before it is read or gone */
    CHECK_SIZE(0, last->calls);
    expect_pattern_bytes(e.peer, 100, 100, 3);
    CHECK_STATUS(0, task_outcome(third));
    CHECK_STATUS(0, task_outcome(last));
    pair_shut(&pair);
  }
}

/* All else is read already: the cancel itself ends the flush. Whether the first
 * of the pending writes can be withdrawn is a matter of the moment (CN3). */
static void fl5_only_the_cancelled_write_was_in_the_way(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    test_task* write = write_begin(e.self, "abc", 3);
    test_task* task = flush(e.self);
    int status = task_cancel(write);
    if (status != 0) {
      CHECK(status == UV_EBUSY || status == UV_ENOENT);
      EXPECT_TEXT(e.peer, 8, "abc", 0);
    }
    CHECK_STATUS(0, task_outcome(task));
    CHECK_STATUS(status == 0 ? UV_ECANCELED : 0, task_outcome(write));
    pair_shut(&pair);
  }
}

static void fl5_an_end_that_only_reads_cannot_flush(void** state) {
  world* w = *state;
  npipe_server_options options = {.direction = NPIPE_INBOUND};
  npipe_client_options client = {.access = NPIPE_WRITE_ONLY};
  test_pair pair = pair_open(w, &options, &client);
  int status;
  CHECK(flush_try(pair.server, 0, &status) == NULL);
  CHECK_STATUS(UV_EACCES, status);
  send_text(pair.client, "x");
  test_task* task = flush(pair.client); /* the other one can */
  world_settle(w);
  CHECK_SIZE(0, task->calls);
  EXPECT_TEXT(pair.server, 8, "x", 0);
  CHECK_STATUS(0, task_outcome(task));
  CHECK_STATUS(0, end_disconnect(pair.server));
  CHECK(flush_try(pair.server, 0, &status) == NULL);
  CHECK_STATUS(UV_EACCES, status);
}

static void flush_out_of_time_changes_nothing(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "abc");
    CHECK_STATUS(UV_ETIMEDOUT, task_outcome(flush_begin(e.self, 0)));
    CHECK_STATUS(UV_ETIMEDOUT, task_outcome(flush_begin(e.self, 20)));
    test_task* task = flush_begin(e.self, 60000);
    EXPECT_TEXT(e.peer, 3, "abc", 0);
    CHECK_STATUS(0, task_outcome(task));
    CHECK_STATUS(0, task_outcome(flush_begin(e.self, 0)));
    pair_shut(&pair);
  }
}

static void cn1_a_cancelled_flush_changes_nothing(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "abc");
    test_task* one = flush(e.self);
    test_task* two = flush(e.self);
    test_task* three = flush(e.self);
    world_settle(w);
    CHECK_STATUS(0, task_cancel(two));
    CHECK_STATUS(UV_ENOENT, task_cancel(two));
    CHECK_STATUS(UV_ECANCELED, task_outcome(two));
    CHECK_SIZE(0, one->calls + three->calls);
    EXPECT_TEXT(e.peer, 3, "abc", 0);
    CHECK_STATUS(0, task_outcome(one));
    CHECK_STATUS(0, task_outcome(three));
    pair_shut(&pair);
  }
}

static void close_cancels_a_flush(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    send_text(e.self, "abc");
    test_task* one = flush(e.self);
    test_task* two = flush_begin(e.self, 60000);
    if (way % 2) world_settle(w);
    end_shut(e.self);
    CHECK_STATUS(UV_ECANCELED, one->status);
    CHECK_STATUS(UV_ECANCELED, two->status);
    EXPECT_TEXT(e.peer, 8, "abc", 0); /* what was written stays (CL1) */
    pair_shut(&pair);
  }
}

static void flush_and_close(test_task* task) {
  end_close(task->end);
}

/* Many rounds of "write, flush, and only then the next". */
static void many_flushes_one_after_the_other(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_of(w, way, &pair);
    test_stream* stream = stream_begin(e.peer, 0);
    size_t total = 0;
    for (uint32_t i = 0; i < 100; i++) {
      write_pattern(e.self, i * 97 % 5000, i);
      total += i * 97 % 5000;
      CHECK_STATUS(0, task_outcome(flush(e.self)));
      /* On Windows it was taken from the system, but perhaps not shown yet. */
      RUN_UNTIL(w, stream->size >= total);
      CHECK_SIZE(total, stream->size);
    }
    send_text(e.self, "x");
    test_task* last = flush(e.self);
    last->hook = flush_and_close;
    CHECK_STATUS(0, task_outcome(last));
    RUN_UNTIL(w, stream->ends == 1);
    CHECK_STATUS(UV_EOF, stream->end_status);
    pair_shut(&pair);
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(fl1_nothing_unread_is_over_at_once),
      TEST(fl1_it_waits_until_the_program_has_read),
      TEST(fl1_a_stream_reads),
      TEST(fl1_pending_writes_are_included),
      TEST(fl1_empty_messages_are_included),
      TEST(fl1_later_writes_do_not_matter),
      TEST(fl1_several_end_in_their_order),
      TEST(fl2_both_ends_at_once),
      TEST(fl2_a_flush_does_not_block_the_loop),
      TEST(fl3_the_peer_closes),
      TEST(fl3_the_peer_reads_and_closes),
      TEST(fl3_the_server_disconnects),
      TEST(fl4_after_the_peer_has_closed),
      TEST(fl5_the_write_in_the_way_is_cancelled),
      TEST(fl5_only_the_cancelled_write_was_in_the_way),
      TEST(fl5_an_end_that_only_reads_cannot_flush),
      TEST(flush_out_of_time_changes_nothing),
      TEST(cn1_a_cancelled_flush_changes_nothing),
      TEST(close_cancels_a_flush),
      TEST(many_flushes_one_after_the_other),
  };
  return harness_main(argc, argv, "flush", tests, HARNESS_COUNT(tests), NULL);
}
