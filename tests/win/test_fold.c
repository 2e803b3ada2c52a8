/*
 * NM3: the table of fold.c against the system's own folding, unit by unit.
 *
 * The table is of one Unicode version. An older Windows lacks the newer pairs:
 * that is shown and accepted, but only where the system folds the unit to
 * itself. Wine has to agree in every unit.
 */
#include <windows.h>

#include "harness.h"
#include "internal.h"

typedef WCHAR(WINAPI* upcase_function)(WCHAR);

static void nm3_folds_like_the_system(void** state) {
  (void) state;
  HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
  CHECK(ntdll != NULL);
  upcase_function upcase = (upcase_function) (void (*)(void)) GetProcAddress(
      ntdll, "RtlUpcaseUnicodeChar");
  CHECK(upcase != NULL);
  unsigned missing = 0;
  unsigned wrong = 0;
  for (unsigned unit = 0; unit <= 0xFFFF; unit++) {
    unsigned ours = npi_fold_unit((uint16_t) unit);
    unsigned system = upcase((WCHAR) unit);
    if (ours == system) continue;
    print_message("%04x folds to %04x, on this system to %04x\n", unit, ours,
                  system);
    if (system == unit)
      missing++;
    else
      wrong++;
  }
  if (missing > 0)
    print_message("%u units that this system does not fold\n", missing);
  CHECK_SIZE(0, wrong);
  if (os_under_wine()) CHECK_SIZE(0, missing);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(nm3_folds_like_the_system),
  };
  return harness_main(argc, argv, "fold", tests, HARNESS_COUNT(tests), NULL);
}
