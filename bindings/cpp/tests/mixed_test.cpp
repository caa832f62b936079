/* One half of a program with exceptions, the other, mixed_values.cpp, without. */
#include <tern.hpp>

#include "check.hpp"

bool fails_as_a_value(const char *path);

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  bool thrown = false;
  try {
    (void)tern::model::from_file("/nowhere");
  } catch (const tern::error &e) {
    thrown = e.code() == tern::status::io;
  }
  CHECK(thrown);
  CHECK(tern::model::from_file(argv[1]).info().n_vocab > 0);
  CHECK(fails_as_a_value("/nowhere"));
  CHECK(!fails_as_a_value(argv[1]));
  return check::failures == 0 ? 0 : 1;
}
