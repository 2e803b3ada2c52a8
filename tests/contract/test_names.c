/* Names: NM1 to NM5. What is refused is refused by both ends alike. */
#include <stdio.h>
#include <string.h>

#include "child.h"
#include "harness.h"

#define PREFIX "\\\\.\\pipe\\"
#define NAME_UNITS_MAX 247

static int create_status(world* w, const char* name) {
  test_host* host;
  int status = host_try(w, name, NULL, &host);
  if (host) host_shut(host);
  return status;
}

static int connect_status(world* w, const char* name) {
  test_end* end;
  int status = end_try(w, name, 0, NULL, &end);
  return status ? status : end_outcome(end);
}

#define REFUSED(w, status, name) \
  do { \
    CHECK_STATUS((status), create_status(w, name)); \
    CHECK_STATUS((status), npipe_last_error()->code); \
    CHECK(npipe_last_error()->text[0] != 0); \
    CHECK_STATUS((status), connect_status(w, name)); \
  } while (0)

/* A server of the one name is found by the other. */
static void same_pipe(world* w, const char* one, const char* other) {
  test_host* host;
  CHECK_STATUS(0, host_try(w, one, NULL, &host));
  CHECK_STATUS(0, connect_outcome(w, other, CONNECT_MS, NULL));
  end_shut(host_accept(host)); /* it would hold the name on Windows */
  CHECK_STATUS(UV_EADDRINUSE, create_status(w, other));
  host_shut(host);
}

static void other_pipe(world* w, const char* one, const char* other) {
  test_host* host;
  CHECK_STATUS(0, host_try(w, one, NULL, &host));
  int status = connect_outcome(w, other, 0, NULL);
  if (status != UV_ENOENT)
    fail_msg("\"%s\" and \"%s\" are one pipe", one, other);
  CHECK_STATUS(0, create_status(w, other));
  host_shut(host);
}

/* ------------------------------------------------- NM1: two forms */

static void nm1_with_and_without_the_prefix(void** state) {
  world* w = *state;
  char full[NPIPE_NAME_BYTES + sizeof PREFIX];
  snprintf(full, sizeof full, "%s%s", PREFIX, w->name);
  same_pipe(w, full, w->name);
  same_pipe(w, w->name, full);
  snprintf(full, sizeof full, "\\\\.\\PiPe\\%s", w->name);
  same_pipe(w, full, w->name);
}

static void nm1_no_name_is_refused(void** state) {
  world* w = *state;
  REFUSED(w, UV_EINVAL, "");
  REFUSED(w, UV_EINVAL, PREFIX);
  REFUSED(w, UV_EINVAL, "\\\\.\\pipe");
  REFUSED(w, UV_EINVAL, NULL);
}

static void nm1_another_prefix_is_refused(void** state) {
  world* w = *state;
  REFUSED(w, UV_EINVAL, "\\\\server\\pipe\\npipe-test");
  REFUSED(w, UV_EINVAL, "\\\\?\\pipe\\npipe-test");
  REFUSED(w, UV_EINVAL, "//./pipe/npipe-test");
  REFUSED(w, UV_EINVAL, "\\\\.\\npipe-test");
  REFUSED(w, UV_EINVAL, "\\\\.\\pip\\npipe-test");
  REFUSED(w, UV_EINVAL, PREFIX PREFIX "npipe-test");
}

static void nm1_what_is_not_utf8_is_refused(void** state) {
  world* w = *state;
  REFUSED(w, UV_EINVAL, "npipe-test-\xff");
  REFUSED(w, UV_EINVAL, "npipe-test-\xc3");             /* cut off */
  REFUSED(w, UV_EINVAL, "npipe-test-\xc0\xaf");         /* '/' made longer */
  REFUSED(w, UV_EINVAL, "npipe-test-\xed\xa0\x80");     /* half a surrogate */
  REFUSED(w, UV_EINVAL, "npipe-test-\xf4\x90\x80\x80"); /* beyond Unicode */
}

/* ------------------------------------------------- NM2: length */

/* The name of the test, filled up with as many copies of a character. */
static void long_name(const world* w, char name[4 * NPIPE_NAME_BYTES],
                      const char* character, size_t units_each, size_t units) {
  size_t used = strlen(w->name);
  memcpy(name, w->name, used);
  for (size_t i = used; i < units; i += units_each) {
    size_t size = strlen(character);
    memcpy(name + used, character, size);
    used += size;
  }
  name[used] = 0;
}

static void nm2_length_check(world* w, const char* character, size_t each) {
  char name[4 * NPIPE_NAME_BYTES];
  char full[4 * NPIPE_NAME_BYTES + sizeof PREFIX];
  size_t longest = NAME_UNITS_MAX;
  if ((longest - strlen(w->name)) % each) longest--;
  long_name(w, name, character, each, longest);
  snprintf(full, sizeof full, "%s%s", PREFIX, name);
  same_pipe(w, name, full);
  long_name(w, name, character, each, longest + 1);
  snprintf(full, sizeof full, "%s%s", PREFIX, name);
  if (each == 1 || longest == NAME_UNITS_MAX) {
    REFUSED(w, UV_ENAMETOOLONG, name);
    REFUSED(w, UV_ENAMETOOLONG, full);
  }
}

static void nm2_names_of_up_to_247_units(void** state) {
  world* w = *state;
  nm2_length_check(w, "x", 1);
  nm2_length_check(w, "\xc3\xa9", 1);         /* two bytes */
  nm2_length_check(w, "\xe2\x82\xac", 1);     /* three bytes */
  nm2_length_check(w, "\xf0\x9f\x90\xa7", 2); /* a surrogate pair */
}

static void nm2_one_character_is_enough(void** state) {
  world* w = *state;
  char name[4 * NPIPE_NAME_BYTES];
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, "\x01", 0, NULL));
  long_name(w, name, "y", 1, 4 * NPIPE_NAME_BYTES - 1);
  REFUSED(w, UV_ENAMETOOLONG, name); /* too long for any buffer */
}

static void nm2_long_names_differ_in_their_last_character(void** state) {
  world* w = *state;
  char one[4 * NPIPE_NAME_BYTES];
  char other[4 * NPIPE_NAME_BYTES];
  long_name(w, one, "x", 1, NAME_UNITS_MAX);
  long_name(w, other, "x", 1, NAME_UNITS_MAX);
  other[strlen(other) - 1] = 'y';
  other_pipe(w, one, other);
}

/* ------------------------------------------------- NM3: case */

static void suffixed(const world* w, char name[NPIPE_NAME_BYTES + 64],
                     const char* suffix) {
  snprintf(name, NPIPE_NAME_BYTES + 64, "%s%s", w->name, suffix);
}

static void case_check(world* w, const char* one, const char* other, int same) {
  char a[NPIPE_NAME_BYTES + 64];
  char b[NPIPE_NAME_BYTES + 64];
  suffixed(w, a, one);
  suffixed(w, b, other);
  if (same)
    same_pipe(w, a, b);
  else
    other_pipe(w, a, b);
}

static void nm3_case_does_not_count(void** state) {
  world* w = *state;
  case_check(w, "-abcxyz", "-ABCXYZ", 1);
  case_check(w, "-MixedCase9", "-mIXEDcASE9", 1);
  case_check(w, "-\xc3\xa9", "-\xc3\x89", 1); /* e acute */
  case_check(w, "-\xcf\x89", "-\xce\xa9", 1); /* omega */
  case_check(w, "-\xd0\xb6", "-\xd0\x96", 1); /* zhe */
}

static void nm3_what_only_looks_alike_is_another_name(void** state) {
  world* w = *state;
  case_check(w, "-\xc3\xa9", "-e", 0);
  case_check(w, "-\xc3\xa9", "-e\xcc\x81", 0); /* not normalised */
  case_check(w, "-\xc3\x9f", "-ss", 0);        /* one by one: no sharp s */
  case_check(w, "-a", "-a ", 0);
  case_check(w, "-a", "-a.", 0);
  case_check(w, "-[", "-{", 0); /* 32 apart as letters are */
  case_check(w, "-@", "-`", 0);
}

static void nm3_case_is_kept_in_the_words_of_an_error(void** state) {
  world* w = *state;
  char name[NPIPE_NAME_BYTES + 64];
  suffixed(w, name, "-CamelCase");
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, name, 0, NULL));
  CHECK(strstr(npipe_last_error()->text, "-CamelCase") != NULL);
}

/* ------------------------------------------------- NM4, NM5: characters */

static void nm4_separators_are_refused(void** state) {
  world* w = *state;
  REFUSED(w, UV_EINVAL, "npipe-test\\a");
  REFUSED(w, UV_EINVAL, "npipe-test/a");
  REFUSED(w, UV_EINVAL, "npipe-test\\");
  REFUSED(w, UV_EINVAL, "npipe-test/");
  REFUSED(w, UV_EINVAL, "/npipe-test");
  REFUSED(w, UV_EINVAL, "\\npipe-test");
  REFUSED(w, UV_EINVAL, PREFIX "npipe-test\\a");
  REFUSED(w, UV_EINVAL, PREFIX "npipe-test/a");
  REFUSED(w, UV_EINVAL, PREFIX "..\\npipe-test");
}

static void nm4_every_other_character_is_legal(void** state) {
  world* w = *state;
  char name[NPIPE_NAME_BYTES + 64];
  char other[NPIPE_NAME_BYTES + 64];
  suffixed(w, name, " !\"#$%&'()*+,-.:;<=>?@[]^_`{|}~ z");
  same_pipe(w, name, name);
  suffixed(w, other, " !\"#$%&'()*+,-.:;<=>?@[]^_`{|}~ y");
  other_pipe(w, name, other);
  suffixed(w, name, "%41%2e%2F-~41-_41-");
  suffixed(w, other, "A./-A-A-");
  CHECK_STATUS(UV_EINVAL, create_status(w, other));
  same_pipe(w, name, name);
}

static void nm5_names_that_mean_something_to_a_file_system(void** state) {
  static const char* const suffixes[] = {"..",    ":stream", "~1",  ".lock",
                                         ".sock", "..x",     "%00", "$"};
  world* w = *state;
  for (size_t i = 0; i < HARNESS_COUNT(suffixes); i++) {
    char name[NPIPE_NAME_BYTES + 64];
    suffixed(w, name, suffixes[i]);
    other_pipe(w, w->name, name);
  }
  char name[NPIPE_NAME_BYTES + 64];
  snprintf(name, sizeof name, "..%s", w->name);
  other_pipe(w, w->name, name);
  snprintf(name, sizeof name, "-%s", w->name);
  other_pipe(w, w->name, name);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(nm1_with_and_without_the_prefix),
      TEST(nm1_no_name_is_refused),
      TEST(nm1_another_prefix_is_refused),
      TEST(nm1_what_is_not_utf8_is_refused),
      TEST(nm2_names_of_up_to_247_units),
      TEST(nm2_one_character_is_enough),
      TEST(nm2_long_names_differ_in_their_last_character),
      TEST(nm3_case_does_not_count),
      TEST(nm3_what_only_looks_alike_is_another_name),
      TEST(nm3_case_is_kept_in_the_words_of_an_error),
      TEST(nm4_separators_are_refused),
      TEST(nm4_every_other_character_is_legal),
      TEST(nm5_names_that_mean_something_to_a_file_system),
  };
  return harness_main(argc, argv, "names", tests, HARNESS_COUNT(tests), NULL);
}
