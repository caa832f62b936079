/* Built with TERN_NO_EXCEPTIONS. */
#include <tern.hpp>

bool fails_as_a_value(const char *path) {
  const auto model = tern::model::from_file(path);
  return !model && model.code() == tern::status::io;
}
