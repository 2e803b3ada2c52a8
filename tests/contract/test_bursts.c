/*
 * Many small messages in one turn of the loop, of chance sizes, more than the
 * quota takes: they leave in few system calls, and whatever way the sizes fill
 * the library's buffers, each arrives as it was.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES 70u
#define ROUNDS 80u

/* Sends one burst and waits until it is read. */
static void burst(test_end* from, test_stream* to, test_chance* dice,
                  uint32_t size_max) {
  static size_t sizes[MESSAGES];
  size_t first = to->count;
  for (uint32_t i = 0; i < MESSAGES; i++) {
    sizes[i] = chance_below(dice, size_max + 1);
    write_pattern(from, sizes[i], i);
  }
  RUN_UNTIL(from->world, to->count == first + MESSAGES || to->ends > 0);
  for (uint32_t i = 0; i < MESSAGES; i++)
    CHECK(stream_has_pattern(to, first + i, sizes[i], i));
}

static void bursts(world* w, uint32_t quota, uint32_t size_max) {
  npipe_server_options options = {
      .type = NPIPE_MESSAGE, .in_quota = quota, .out_quota = quota};
  test_pair pair = pair_open(w, &options, NULL);
  test_stream* at_server = stream_begin(pair.server, 0);
  test_stream* at_client = stream_begin(pair.client, 0);
  test_chance dice = chance_seeded(quota + size_max);
  for (unsigned round = 0; round < ROUNDS; round++) {
    burst(pair.client, at_server, &dice, size_max);
    burst(pair.server, at_client, &dice, size_max);
  }
}

static void wr1_bursts_of_small_messages(void** state) {
  bursts(*state, 0, 700);
}

static void wr3_bursts_beyond_the_quota(void** state) {
  bursts(*state, 15500, 700);
}

static void wr3_bursts_of_mixed_sizes_beyond_the_quota(void** state) {
  bursts(*state, 15000, 1500);
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(wr1_bursts_of_small_messages),
      TEST(wr3_bursts_beyond_the_quota),
      TEST(wr3_bursts_of_mixed_sizes_beyond_the_quota),
  };
  return harness_main(argc, argv, "bursts", tests, HARNESS_COUNT(tests), NULL);
}
