/* A header of another minor than the library is refused before anything is loaded. */
#include <tern.h>

#include <cstdio>
#include <cstring>

#undef TERN_VERSION_NUMBER
#undef TERN_VERSION_MINOR
#define TERN_VERSION_MINOR 999
#define TERN_VERSION_NUMBER ((TERN_VERSION_MAJOR * 1000 + TERN_VERSION_MINOR) * 1000 + TERN_VERSION_PATCH)
#include <tern.hpp>

int main() {
  try {
    (void)tern::model::from_file("/nowhere");
  } catch (const tern::error &e) {
    std::puts(e.what());
    return e.code() == tern::status::unsupported && std::strstr(e.what(), "999") != nullptr ? 0 : 1;
  }
  return 1;
}
