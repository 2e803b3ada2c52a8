/* Names from the inside: UTF-8, the limits of NM2 and the folding of NM3. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"

#define PREFIX "\\\\.\\pipe\\"

/* ------------------------------------------------- UTF-8 */

/* The bytes stand at the end of memory of their own size, so that a sanitizer
 * sees a read behind their NUL. */
static int32_t next_of(const char* bytes, size_t* used) {
  size_t size = strlen(bytes) + 1;
  char* copy = must_alloc(size);
  memcpy(copy, bytes, size);
  const char* at = copy;
  int32_t point = npi_utf8_next(&at);
  *used = (size_t) (at - copy);
  free(copy);
  return point;
}

static void check_next(const char* bytes, int32_t want, size_t want_used) {
  size_t used;
  int32_t point = next_of(bytes, &used);
  if (point != want || used != want_used)
    fail_msg("%02x %02x...: point %lx after %u bytes, not %lx after %u",
             (uint8_t) bytes[0], bytes[0] ? (uint8_t) bytes[1] : 0,
             (unsigned long) point, (unsigned) used, (unsigned long) want,
             (unsigned) want_used);
}

static void utf8_reads_the_ends_of_every_length(void** state) {
  (void) state;
  check_next("\x01", 0x01, 1);
  check_next("\x7f", 0x7F, 1);
  check_next("\xc2\x80", 0x80, 2);
  check_next("\xdf\xbf", 0x7FF, 2);
  check_next("\xe0\xa0\x80", 0x800, 3);
  check_next("\xed\x9f\xbf", 0xD7FF, 3);
  check_next("\xee\x80\x80", 0xE000, 3);
  check_next("\xef\xbf\xbf", 0xFFFF, 3);
  check_next("\xf0\x90\x80\x80", 0x10000, 4);
  check_next("\xf4\x8f\xbf\xbf", 0x10FFFF, 4);
  check_next("a\xff", 'a', 1); /* what follows does not matter */
}

static void utf8_refuses_what_is_none(void** state) {
  static const char* const invalid[] = {
      "\x80",                     /* a continuation alone */
      "\xbf",                     /* the same */
      "\xc0\x80",                 /* NUL made longer */
      "\xc0\xaf",                 /* '/' made longer */
      "\xc1\xbf",                 /* 7F made longer */
      "\xe0\x80\x80",             /* three bytes for NUL */
      "\xe0\x80\xaf",             /* three bytes for '/' */
      "\xe0\x9f\xbf",             /* three bytes for 7FF */
      "\xf0\x80\x80\xaf",         /* four bytes for '/' */
      "\xf0\x8f\xbf\xbf",         /* four bytes for FFFF */
      "\xed\xa0\x80",             /* surrogate D800 */
      "\xed\xad\xbf",             /* DB7F */
      "\xed\xb0\x80",             /* DC00 */
      "\xed\xbf\xbf",             /* DFFF */
      "\xed\xa0\xbd\xed\xb0\x80", /* a pair of them */
      "\xf4\x90\x80\x80",         /* 110000 */
      "\xf5\x80\x80\x80",
      "\xf7\xbf\xbf\xbf",
      "\xf8\x88\x80\x80\x80",     /* five bytes */
      "\xfc\x84\x80\x80\x80\x80", /* six */
      "\xfe",
      "\xff",
      "\xc2", /* cut off */
      "\xdf",
      "\xe2",
      "\xe2\x82",
      "\xf0",
      "\xf0\x9f",
      "\xf0\x9f\x90",
      "\xc2"
      "a", /* cut off by a letter */
      "\xe2"
      "aa",
      "\xe2\x82"
      "a",
      "\xf0\x9f\x90"
      "a",
      "\xc2\xc2\x80", /* by the next character */
      "\xe2\x82\xe2\x82\xac",
  };
  (void) state;
  for (size_t i = 0; i < HARNESS_COUNT(invalid); i++) {
    npi_name name;
    check_next(invalid[i], -1, 0);
    CHECK_STATUS(UV_EINVAL, npi_name_parse(&name, invalid[i]));
    CHECK_STATUS(UV_EINVAL, npipe_last_error()->code);
  }
}

static size_t put(char* out, uint32_t point) {
  if (point < 0x80) {
    out[0] = (char) point;
    return 1;
  }
  size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  static const uint8_t marks[] = {0, 0, 0xC0, 0xE0, 0xF0};
  for (size_t i = length; i-- > 1; point >>= 6)
    out[i] = (char) (0x80 | (point & 0x3F));
  out[0] = (char) (marks[length] | point);
  return length;
}

static void utf8_reads_every_code_point(void** state) {
  (void) state;
  for (uint32_t point = 1; point < 0x110800; point++) {
    char bytes[5];
    size_t length = put(bytes, point);
    bytes[length] = 0;
    const char* at = bytes;
    int32_t got = npi_utf8_next(&at);
    int valid = (point < 0xD800 || point > 0xDFFF) && point <= 0x10FFFF;
    if (got != (valid ? (int32_t) point : -1) ||
        at != bytes + (valid ? length : 0))
      fail_msg("%lx is read as %lx", (unsigned long) point,
               (unsigned long) got);
  }
}

/* ------------------------------------------------- parsing */

static void parsed(const char* text, const char* want) {
  npi_name name;
  memset(&name, 0x7E, sizeof name);
  CHECK_STATUS(0, npi_name_parse(&name, text));
  assert_string_equal(want, name.text);
}

static void refused(const char* text, int status) {
  npi_name name;
  CHECK_STATUS(status, npi_name_parse(&name, text));
  CHECK_STATUS(status, npipe_last_error()->code);
  CHECK(npipe_last_error()->text[0] != 0);
}

static void parse_cuts_the_prefix_once(void** state) {
  (void) state;
  parsed("a", "a");
  parsed(PREFIX "a", "a");
  parsed("\\\\.\\PIPE\\Aa", "Aa");
  parsed("pipe", "pipe");
  parsed(".", ".");
  parsed("..", "..");
  parsed(" ", " ");
  refused(PREFIX PREFIX "a", UV_EINVAL);
  refused("\\\\.\\pipe", UV_EINVAL);
  refused(PREFIX, UV_EINVAL);
  refused("\\", UV_EINVAL);
  refused("\\\\.\\", UV_EINVAL);
  refused("", UV_EINVAL);
  refused(NULL, UV_EINVAL);
}

static void parse_refuses_separators_anywhere(void** state) {
  (void) state;
  refused("a/b", UV_EINVAL);
  refused("a\\b", UV_EINVAL);
  refused("/", UV_EINVAL);
  refused("a/", UV_EINVAL);
  refused(PREFIX "\\a", UV_EINVAL);
  refused(PREFIX "a/b", UV_EINVAL);
}

/* ------------------------------------------------- limits */

static void fill(char* out, const char* character, size_t count) {
  size_t size = strlen(character);
  for (size_t i = 0; i < count; i++) memcpy(out + i * size, character, size);
  out[count * size] = 0;
}

static void limit_check(const char* character, size_t most) {
  char text[sizeof PREFIX + 4 * (NPI_NAME_UNITS_MAX + 2)] = PREFIX;
  char* name = text + strlen(PREFIX);
  fill(name, character, most);
  parsed(name, name);
  parsed(text, name);
  fill(name, character, most + 1);
  refused(name, UV_ENAMETOOLONG);
  refused(text, UV_ENAMETOOLONG);
}

static void nm2_247_units_and_no_more(void** state) {
  (void) state;
  limit_check("x", 247);
  limit_check("\xc3\xa9", 247);
  limit_check("\xe2\x82\xac", 247);
  limit_check("\xf0\x9f\x90\xa7", 123);
}

static void nm2_a_pair_does_not_fit_into_the_last_unit(void** state) {
  char text[4 * (NPI_NAME_UNITS_MAX + 2)];
  (void) state;
  fill(text, "x", 245);
  strcat(text, "\xf0\x9f\x90\xa7");
  parsed(text, text); /* 247 */
  fill(text, "x", 246);
  strcat(text, "\xf0\x9f\x90\xa7");
  refused(text, UV_ENAMETOOLONG); /* 248 */
}

static void nm2_the_longest_utf8_has_room(void** state) {
  npi_name name;
  char text[4 * (NPI_NAME_UNITS_MAX + 2)];
  struct {
    char folded[NPIPE_NAME_BYTES];
    char guard[16];
  } out;
  (void) state;
  fill(text, "\xef\xbf\xbd", 247);
  CHECK_SIZE(741, strlen(text));
  CHECK_STATUS(0, npi_name_parse(&name, text));
  memset(&out, 0x7E, sizeof out);
  npi_name_fold(&name, out.folded);
  assert_string_equal(text, out.folded);
  CHECK(out.guard[0] == 0x7E);
  /* Two bytes each that become three: U+0250 to U+2C6F. */
  fill(text, "\xc9\x90", 247);
  CHECK_STATUS(0, npi_name_parse(&name, text));
  npi_name_fold(&name, out.folded);
  CHECK_SIZE(741, strlen(out.folded));
  CHECK(memcmp(out.folded, "\xe2\xb1\xaf", 3) == 0);
  CHECK(out.guard[0] == 0x7E);
}

static void nm2_an_endless_name_is_not_read_to_its_end(void** state) {
  char* text = must_alloc(1000001);
  (void) state;
  memset(text, 'x', 1000000);
  text[1000000] = 0;
  refused(text, UV_ENAMETOOLONG);
  free(text);
}

/* ------------------------------------------------- folding */

static void folds_to(const char* text, const char* want) {
  npi_name name;
  char folded[NPIPE_NAME_BYTES];
  CHECK_STATUS(0, npi_name_parse(&name, text));
  npi_name_fold(&name, folded);
  assert_string_equal(want, folded);
  CHECK_STATUS(0, npi_name_parse(&name, folded));
  npi_name_fold(&name, folded); /* and stays there */
  assert_string_equal(want, folded);
}

static void nm3_folds_letters(void** state) {
  (void) state;
  folds_to("abcxyzABCXYZ", "ABCXYZABCXYZ");
  folds_to("0123456789 @[`{~", "0123456789 @[`{~");
  folds_to("\xc3\xa0\xc3\xb6\xc3\xbe", "\xc3\x80\xc3\x96\xc3\x9e"); /* Latin */
  folds_to("\xc3\xbf", "\xc5\xb8");                 /* y diaeresis */
  folds_to("\xc5\x82", "\xc5\x81");                 /* l stroke */
  folds_to("\xce\xb1\xcf\x89", "\xce\x91\xce\xa9"); /* Greek */
  folds_to("\xce\xac", "\xce\x86");                 /* alpha tonos */
  folds_to("\xd0\xb0\xd1\x8f", "\xd0\x90\xd0\xaf"); /* Cyrillic */
  folds_to("\xd1\x91", "\xd0\x81");                 /* io */
  folds_to("\xef\xbd\x81", "\xef\xbc\xa1");         /* full width a */
}

static void nm3_leaves_the_rest(void** state) {
  (void) state;
  folds_to("\xc3\x9f", "\xc3\x9f");                 /* sharp s */
  folds_to("\xc3\xb7", "\xc3\xb7");                 /* divided by */
  folds_to("\xc3\x97", "\xc3\x97");                 /* times */
  folds_to("\xc4\xb1", "\xc4\xb1");                 /* dotless i */
  folds_to("\xc4\xb0", "\xc4\xb0");                 /* dotted I */
  folds_to("\xef\xac\x81", "\xef\xac\x81");         /* fi */
  folds_to("\xe4\xb8\xad", "\xe4\xb8\xad");         /* Chinese */
  folds_to("\xf0\x90\x90\xa8", "\xf0\x90\x90\xa8"); /* small Deseret */
  folds_to("\xf0\x9f\x90\xa7", "\xf0\x9f\x90\xa7"); /* penguin */
  folds_to("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"); /* 10FFFF */
}

static void nm3_units(void** state) {
  (void) state;
  CHECK_SIZE(0, npi_fold_unit(0));
  CHECK_SIZE(0xFFFF, npi_fold_unit(0xFFFF));
  for (uint32_t unit = 0; unit <= 0xFFFF; unit++) {
    uint16_t once = npi_fold_unit((uint16_t) unit);
    if (npi_fold_unit(once) != once) fail_msg("%04x folds twice", unit);
    int surrogate = unit >= 0xD800 && unit <= 0xDFFF;
    if (surrogate ? once != unit : once >= 0xD800 && once <= 0xDFFF)
      fail_msg("%04x: surrogates", unit);
    if (unit < 0x80) {
      uint32_t want = unit >= 'a' && unit <= 'z' ? unit - 32 : unit;
      CHECK_SIZE(want, once);
    } else if (once < 0x80) { /* nothing sneaks into ASCII, such as '/' */
      fail_msg("%04x folds to %02x", unit, once);
    }
    if (unit != 0 && once == 0) fail_msg("%04x folds to NUL", unit);
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(utf8_reads_the_ends_of_every_length),
      cmocka_unit_test(utf8_refuses_what_is_none),
      cmocka_unit_test(utf8_reads_every_code_point),
      cmocka_unit_test(parse_cuts_the_prefix_once),
      cmocka_unit_test(parse_refuses_separators_anywhere),
      cmocka_unit_test(nm2_247_units_and_no_more),
      cmocka_unit_test(nm2_a_pair_does_not_fit_into_the_last_unit),
      cmocka_unit_test(nm2_the_longest_utf8_has_room),
      cmocka_unit_test(nm2_an_endless_name_is_not_read_to_its_end),
      cmocka_unit_test(nm3_folds_letters),
      cmocka_unit_test(nm3_leaves_the_rest),
      cmocka_unit_test(nm3_units),
  };
  return harness_main(argc, argv, "name", tests, HARNESS_COUNT(tests), NULL);
}
