/*
 * The frames that end something, and the ones a flush needs, with a peer that
 * was written from docs/wire-format.md alone: DISCONNECT, WITHDRAW, ASK of a
 * flush, the last CONSUMED before a close.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "look.h"
#include "unix/raw_link.h"

#define QUOTA RAW_QUOTA
#define BIG ((size_t) 2 * 1024 * 1024) /* more than a socket takes */

static void settle(raw_peer* raw) {
  for (int i = 0; i < 30; i++) raw_turn(raw);
}

/* Only the loop runs: the peer does not read. */
static void settle_alone(world* w) {
  for (int i = 0; i < 30; i++) uv_run(&w->loop, UV_RUN_NOWAIT);
}

static void expect_ask(raw_peer* raw, uint64_t bytes, uint64_t messages) {
  raw_frame ask = raw_next_of(raw, RAW_ASK);
  CHECK_SIZE(bytes, raw_get(ask.body, 8));
  CHECK_SIZE(messages, raw_get(ask.body + 8, 8));
  raw_frame_free(&ask);
}

/* ------------------------------------------------- disconnect */

static void di1_the_client_is_told(void** state) {
  for (int type = 0; type < 2; type++) {
    raw_link link = link_to_server(*state, (npipe_type) type);
    write_begin(link.end, "unread", 6);
    settle(&link.raw);
    CHECK_STATUS(0, end_disconnect(link.end));
    raw_expect_disconnect(&link.raw);
    link_close(*state, &link);
    end_shut(link.end);
    host_shut(link.host);
  }
}

/* Half a frame is out and the socket is full: it is finished first. */
static void di1_the_client_is_told_behind_a_full_socket(void** state) {
  world* w = *state;
  for (int type = 0; type < 2; type++) {
    npipe_server_options options = {.type = (npipe_type) type,
                                    .out_quota = 4 * BIG};
    raw_link link = {.host = host_open(w, &options), .listener = -1};
    link.raw = raw_open(w);
    link.end = host_accept(link.host);
    test_task* task = write_pattern(link.end, BIG, 1);
    settle_alone(w);
    CHECK_SIZE(0, task->calls);
    CHECK_STATUS(0, end_disconnect(link.end));
    CHECK_STATUS(UV_ECONNABORTED, task_outcome(task));
    raw_expect_disconnect(&link.raw); /* whole frames came before it */
    raw_close(&link.raw);
    end_shut(link.end);
    host_shut(link.host);
  }
}

/* A close waits for the farewell, an abort does not. */
static void di1_the_close_waits_for_the_farewell(void** state) {
  world* w = *state;
  for (int aborts = 0; aborts < 2; aborts++) {
    npipe_server_options options = {.out_quota = 4 * BIG};
    raw_link link = {.host = host_open(w, &options), .listener = -1};
    link.raw = raw_open(w);
    link.end = host_accept(link.host);
    write_pattern(link.end, BIG, 1);
    settle_alone(w);
    CHECK_STATUS(0, end_disconnect(link.end));
    if (aborts) {
      end_drop(link.end);
      RAW_UNTIL(&link.raw, link.raw.ended);
    } else {
      end_close(link.end);
      settle_alone(w);
      CHECK_SIZE(0, link.end->closes);
      raw_expect_disconnect(&link.raw);
      RAW_UNTIL(&link.raw, link.end->closes > 0);
    }
    raw_close(&link.raw);
    host_shut(link.host);
  }
}

/* The instance goes on at once, while its old client is still being told. */
static void di4_the_next_client_does_not_wait(void** state) {
  world* w = *state;
  npipe_server_options options = {
      .type = NPIPE_MESSAGE, .max_instances = 1, .out_quota = 4 * BIG};
  raw_link link = {.host = host_open(w, &options), .listener = -1};
  link.raw = raw_open(w);
  link.end = host_accept(link.host);
  write_pattern(link.end, BIG, 1);
  settle_alone(w);
  CHECK_STATUS(0, end_disconnect(link.end));
  test_task* listen = listen_begin(link.end, 5000);
  raw_peer next = raw_open(w);
  CHECK_STATUS(0, task_outcome(listen));
  raw_send_message(&next, "hello", 5);
  EXPECT_TEXT(link.end, 10, "hello", 0);
  write_begin(link.end, "world", 5);
  raw_frame frame = raw_next(&next); /* counted from the beginning */
  CHECK_SIZE(RAW_DATA, frame.type);
  CHECK_SIZE(5, frame.length);
  raw_frame_free(&frame);
  raw_send_count(&next, RAW_ASK, 5, 1);
  raw_expect_consumed(&next, 5, 1);
  raw_expect_disconnect(&link.raw);
  raw_close(&next);
  raw_close(&link.raw);
}

/* DISCONNECT waits unread in the socket: whatever a client does, it finds it
 * there. */
static void di2_a_client_finds_it_by_its_next_step(void** state) {
  world* w = *state;
  for (int way = 0; way < 6; way++) {
    raw_link link = link_to_client(w, NPIPE_MESSAGE);
    raw_send_message(&link.raw, "unread", 6);
    raw_send_head(&link.raw, RAW_DISCONNECT, 0, 0);
    close(link.raw.fd);
    link.raw.fd = -1;
    npipe_peek_info info;
    test_task* task = NULL;
    uv_buf_t buf = uv_buf_init("x", 1);
    int status = UV_ECONNABORTED;
    switch (way) {
      case 0: task = read_begin(link.end, 10); break;
      case 1: task = write_begin(link.end, "x", 1); break;
      case 2: task = flush_begin(link.end, 1000); break;
      case 3: status = CALL(w, npipe_try_write(link.end->conn, &buf, 1)); break;
      case 4:
        status = CALL(w, npipe_peek(link.end->conn, NULL, 0, &info));
        break;
      default: status = info_status(link.end);
    }
    if (task != NULL) status = task_outcome(task);
    if (status != UV_ECONNABORTED) fail_msg("way %d: %d", way, status);
    EXPECT_STATUS(link.end, 10, UV_ECONNABORTED);
    link_close(w, &link);
  }
}

/* ------------------------------------------------- withdraw */

static void cl5_a_pending_message_is_withdrawn(void** state) {
  for (int server = 0; server < 2; server++) {
    raw_link link = link_open(*state, NPIPE_MESSAGE, server);
    send_pattern(link.end, 100, 1);
    send_pattern(link.end, 0, 2);
    test_task* task = write_pattern(link.end, QUOTA + 1, 3);
    raw_expect_message(&link.raw, 100, 1);
    raw_expect_message(&link.raw, 0, 2);
    raw_expect_message(&link.raw, QUOTA + 1, 3);
    end_abort(link.end);
    raw_expect_withdraw(&link.raw, 100, 2);
    CHECK_STATUS(UV_ECANCELED, task_outcome(task));
    link_close(*state, &link);
    end_shut(link.end);
    if (link.host != NULL) host_shut(link.host);
  }
}

static void cl5_pending_bytes_are_withdrawn(void** state) {
  raw_link link = link_to_server(*state, NPIPE_BYTE);
  send_pattern(link.end, 100, 1);
  write_pattern(link.end, QUOTA, 1);
  settle(&link.raw);
  end_abort(link.end);
  raw_expect_withdraw(&link.raw, 100, 0);
  link_close(*state, &link);
}

/* The end of a linger is such an end, too; what is done by then is not. */
static void cl5_a_linger_that_ends_in_vain(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  npipe_set_linger(link.end->conn, 50);
  test_task* first = write_pattern(link.end, QUOTA + 1, 1);
  test_task* second = write_pattern(link.end, 10, 2);
  end_close(link.end);
  raw_expect_message(&link.raw, QUOTA + 1, 1);
  raw_send_count(&link.raw, RAW_CONSUMED, QUOTA + 1, 1);
  raw_expect_message(&link.raw, 10, 2);
  RAW_UNTIL(&link.raw, link.end->closes > 0);
  CHECK_STATUS(0, first->status);
  CHECK_STATUS(0, second->status);
  raw_expect_end(&link.raw); /* nothing to withdraw */
  link_close(*state, &link);
  host_shut(link.host);
  link = link_to_server(*state, NPIPE_MESSAGE);
  npipe_set_linger(link.end->conn, 50);
  first = write_pattern(link.end, QUOTA + 1, 1);
  end_close(link.end);
  raw_expect_withdraw(&link.raw, 0, 0);
  CHECK_STATUS(UV_ECANCELED, task_outcome(first));
  link_close(*state, &link);
}

/* Ours to obey: messages behind the position, a half-read one included. */
static void cl5_what_the_peer_withdraws_is_gone(void** state) {
  for (int keep = 0; keep < 4; keep++) {
    raw_link link = link_open(*state, NPIPE_MESSAGE, keep % 2);
    raw_send_message(&link.raw, "first", 5);
    raw_send_message(&link.raw, "second", 6);
    raw_send_message(&link.raw, "third", 5);
    raw_send_data(&link.raw, RAW_FIRST, 10, "arriv", 5);
    EXPECT_TEXT(link.end, 10, "first", 0);
    EXPECT_TEXT(link.end, 3, "sec", NPIPE_MORE);
    raw_send_count(&link.raw, RAW_WITHDRAW, 0, (uint64_t) keep);
    CHECK_SIZE(keep < 2 ? 0 : keep == 2 ? 3 : 8, peek_available(link.end));
    if (keep >= 2) EXPECT_TEXT(link.end, 10, "ond", 0);
    if (keep >= 3) EXPECT_TEXT(link.end, 10, "third", 0);
    EXPECT_STATUS(link.end, 10, UV_EOF);
    link_close(*state, &link);
    end_shut(link.end);
    if (link.host != NULL) host_shut(link.host);
  }
}

static void cl5_bytes_that_the_peer_withdraws_are_gone(void** state) {
  raw_link link = link_to_server(*state, NPIPE_BYTE);
  raw_send_stream(&link.raw, "0123456789", 10);
  EXPECT_TEXT(link.end, 3, "012", 0);
  raw_send_count(&link.raw, RAW_WITHDRAW, 5, 0);
  EXPECT_TEXT(link.end, 100, "34", 0);
  EXPECT_STATUS(link.end, 100, UV_EOF);
  link_close(*state, &link);
}

/* ------------------------------------------------- flush */

static void fl1_a_flush_asks_and_waits(void** state) {
  for (int server = 0; server < 2; server++) {
    raw_link link = link_open(*state, NPIPE_MESSAGE, server);
    send_pattern(link.end, 10, 1);
    send_pattern(link.end, 0, 2);
    test_task* flush = flush_begin(link.end, NPIPE_WAIT_FOREVER);
    expect_ask(&link.raw, 10, 2);
    raw_send_count(&link.raw, RAW_CONSUMED, 10, 1); /* not the empty one */
    settle(&link.raw);
    CHECK_SIZE(0, flush->calls);
    raw_send_count(&link.raw, RAW_CONSUMED, 10, 2);
    CHECK_STATUS(0, task_outcome(flush));
    link_close(*state, &link);
    end_shut(link.end);
    if (link.host != NULL) host_shut(link.host);
  }
}

/* What comes first is asked for first, whoever wants it. */
static void fl1_asks_do_not_starve_each_other(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  send_pattern(link.end, 10, 1);
  test_task* early = flush_begin(link.end, NPIPE_WAIT_FOREVER);
  expect_ask(&link.raw, 10, 1);
  test_task* pending = write_pattern(link.end, QUOTA + 100, 2);
  test_task* late = flush_begin(link.end, NPIPE_WAIT_FOREVER);
  raw_expect_message(&link.raw, QUOTA + 100, 2);
  settle(&link.raw);
  CHECK_SIZE(0, link.raw.in_size); /* the first ASK stays */
  raw_send_count(&link.raw, RAW_CONSUMED, 10, 1);
  CHECK_STATUS(0, task_outcome(early));
  expect_ask(&link.raw, 110, 0); /* for the write */
  raw_send_count(&link.raw, RAW_CONSUMED, 110, 1);
  CHECK_STATUS(0, task_outcome(pending));
  expect_ask(&link.raw, QUOTA + 110, 2);
  CHECK_SIZE(0, late->calls);
  raw_send_count(&link.raw, RAW_CONSUMED, QUOTA + 110, 2);
  CHECK_STATUS(0, task_outcome(late));
  link_close(*state, &link);
}

/* The cancelled write was in its numbers; it asks again, for less. */
static void fl5_a_cancelled_write_is_taken_out(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  test_task* first = write_pattern(link.end, QUOTA + 5, 1);
  test_task* second = write_pattern(link.end, 100, 2);
  test_task* third = write_pattern(link.end, 7, 3);
  test_task* flush = flush_begin(link.end, NPIPE_WAIT_FOREVER);
  raw_expect_message(&link.raw, QUOTA + 5, 1);
  expect_ask(&link.raw, 5, 0);
  CHECK_STATUS(UV_EBUSY, task_cancel(first));
  CHECK_STATUS(0, task_cancel(second));
  raw_send_count(&link.raw, RAW_CONSUMED, 5, 0);
  raw_expect_message(&link.raw, 7, 3);
  expect_ask(&link.raw, 12, 0);
  CHECK_STATUS(0, task_outcome(first));
  CHECK_STATUS(UV_ECANCELED, task_outcome(second));
  raw_send_count(&link.raw, RAW_CONSUMED, QUOTA + 12, 2);
  CHECK_STATUS(0, task_outcome(third));
  CHECK_STATUS(0, task_outcome(flush));
  send_pattern(link.end, 10, 4);
  flush = flush_begin(link.end, NPIPE_WAIT_FOREVER);
  expect_ask(&link.raw, QUOTA + 22, 3);
  raw_send_count(&link.raw, RAW_CONSUMED, QUOTA + 22, 3);
  CHECK_STATUS(0, task_outcome(flush));
  link_close(*state, &link);
}

/* Its program has read everything, but nobody asked until it had closed. */
static void fl1_a_close_reports_what_was_read(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  raw_send_message(&link.raw, "hello", 5);
  EXPECT_TEXT(link.end, 10, "hello", 0);
  end_close(link.end);
  raw_expect_consumed(&link.raw, 5, 1);
  raw_expect_end(&link.raw);
  link_close(*state, &link);
}

/* While an end lingers nobody reads there, but reports are understood and the
 * peer is never blocked. */
static void cl1_a_linger_goes_on_with_the_protocol(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  unsigned char data[QUOTA] = {0};
  raw_send_message(&link.raw, "hello", 5);
  EXPECT_TEXT(link.end, 10, "hello", 0);
  test_task* first = write_pattern(link.end, QUOTA + 5, 1);
  test_task* second = write_pattern(link.end, BIG, 2);
  end_close(link.end);
  raw_expect_message(&link.raw, QUOTA + 5, 1);
  settle(&link.raw);
  link.raw.in_size = 0; /* an ASK */
  raw_send_count(&link.raw, RAW_ASK, 5, 1);
  raw_expect_consumed(&link.raw, 5, 1);
  raw_send_message(&link.raw, data, sizeof data);
  raw_send_count(&link.raw, RAW_ASK, sizeof data, 2);
  raw_send_count(&link.raw, RAW_CONSUMED, QUOTA + 5, 1);
  raw_expect_message(&link.raw, BIG, 2);
  CHECK_STATUS(0, task_outcome(first));
  CHECK_SIZE(0, second->calls);
  raw_send_count(&link.raw, RAW_CONSUMED, QUOTA + 5 + BIG, 2);
  CHECK_STATUS(0, task_outcome(second));
  RAW_UNTIL(&link.raw, link.end->closes > 0);
  RAW_UNTIL(&link.raw, link.raw.ended);
  link_close(*state, &link);
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(di1_the_client_is_told),
      TEST(di1_the_client_is_told_behind_a_full_socket),
      TEST(di1_the_close_waits_for_the_farewell),
      TEST(di4_the_next_client_does_not_wait),
      TEST(di2_a_client_finds_it_by_its_next_step),
      TEST(cl5_a_pending_message_is_withdrawn),
      TEST(cl5_pending_bytes_are_withdrawn),
      TEST(cl5_a_linger_that_ends_in_vain),
      TEST(cl5_what_the_peer_withdraws_is_gone),
      TEST(cl5_bytes_that_the_peer_withdraws_are_gone),
      TEST(fl1_a_flush_asks_and_waits),
      TEST(fl1_asks_do_not_starve_each_other),
      TEST(fl5_a_cancelled_write_is_taken_out),
      TEST(fl1_a_close_reports_what_was_read),
      TEST(cl1_a_linger_goes_on_with_the_protocol),
  };
  return raw_main(argc, argv, "last", tests, HARNESS_COUNT(tests));
}
