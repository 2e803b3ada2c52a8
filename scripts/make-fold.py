#!/usr/bin/env python3
"""Writes src/fold.c, the table by which npipe compares names without case.

The rule: a UTF-16 unit folds to its simple upper-case partner if that
partner's lower case leads back to it. Characters with two upper-case forms or
with none of their own (dotless i, long s, micro sign ...) fold to themselves,
as in Windows. tests/win compares the table with the system's own.

Usage: python3 scripts/make-fold.py > src/fold.c
"""
import unicodedata


def partner(unit):
    char = chr(unit)
    for upper in (char.upper(), char.title()):
        if len(upper) == 1 and ord(upper) != unit and ord(upper) < 0x10000:
            return ord(upper) if upper.lower() == char else None
    return None


def ranges():
    pairs = []
    for unit in range(0x10000):
        upper = None if 0xD800 <= unit < 0xE000 else partner(unit)
        if upper is not None:
            pairs.append((unit, upper - unit))
    out = []
    for unit, delta in pairs:
        if out and out[-1][3] == delta:
            first, last, step, _ = out[-1]
            gap = unit - last
            if (first == last and gap in (1, 2)) or gap == step:
                out[-1] = (first, unit, gap, delta)
                continue
        out.append((unit, unit, 1, delta))
    return out


HEAD = """/*
 * The table by which names compare without case (NM3), and the look-up.
 *
 * Written by scripts/make-fold.py from Unicode %s; do not edit. A row
 * says: the units first, first + step ... last fold to themselves plus delta
 * (modulo 65536). The rows are in order, so a binary search finds the one that
 * a unit can be in. The locale has no part in it.
 */
#include "internal.h"

typedef struct fold_range {
  uint16_t first;
  uint16_t last;
  uint16_t step;
  uint16_t delta;
} fold_range;

/* clang-format off */
static const fold_range fold_ranges[] = {
"""

TAIL = """};
/* clang-format on */

uint16_t npi_fold_unit(uint16_t unit) {
  size_t low = 0;
  size_t high = sizeof fold_ranges / sizeof fold_ranges[0];
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const fold_range* row = &fold_ranges[middle];
    if (unit > row->last)
      low = middle + 1;
    else if (unit < row->first)
      high = middle;
    else if ((unit - row->first) % row->step != 0)
      return unit;
    else
      return (uint16_t) (unit + row->delta);
  }
  return unit;
}
"""

print(HEAD % unicodedata.unidata_version, end="")
for row in ranges():
    print("  {0x%04X, 0x%04X, %d, 0x%04X}," % (*row[:3], row[3] & 0xFFFF))
print(TAIL, end="")
