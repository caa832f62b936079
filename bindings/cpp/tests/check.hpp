/* The test harness: a check that prints what it saw, and the memory of this process. */
#pragma once

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <psapi.h>
#endif
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace check {

inline int failures = 0;

template <class T>
std::string show(const T &value) {
  std::ostringstream out;
  if constexpr (std::is_enum_v<T>) {
    out << static_cast<long long>(value);
  } else {
    out << value;
  }
  return out.str();
}

inline bool that(bool good, const char *what, const std::string &seen, const char *file, int line) {
  if (!good) {
    ++failures;
    std::fprintf(stderr, "%s:%d: not so: %s%s%s\n", file, line, what, seen.empty() ? "" : "; seen ", seen.c_str());
  }
  return good;
}

template <class A, class B>
bool equal(const A &a, const B &b, const char *what, const char *file, int line) {
  return that(a == b, what, show(a) + " and " + show(b), file, line);
}

inline std::vector<std::uint8_t> read_file(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<std::uint8_t> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in || bytes.empty()) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(2);
  }
  return bytes;
}

// Resident memory in KiB, by the system's count.
inline long resident_kib() {
#ifdef _WIN32
  PROCESS_MEMORY_COUNTERS counters{};
  return K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters) ? static_cast<long>(counters.WorkingSetSize / 1024) : 0;
#else
  std::ifstream in("/proc/self/statm");
  long total = 0, resident = 0;
  in >> total >> resident;
  return resident * 4;
#endif
}

// Whether the bytes are whole UTF-8 code points: no torn, overlong or surrogate sequence.
inline bool whole_utf8(const char *data, std::size_t size) {
  const auto *p = reinterpret_cast<const unsigned char *>(data);
  for (std::size_t i = 0; i < size;) {
    const unsigned char c = p[i];
    const std::size_t n = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
    if (n == 0 || i + n > size) return false;
    for (std::size_t k = 1; k < n; ++k) {
      if ((p[i + k] & 0xC0) != 0x80) return false;
    }
    if ((c == 0xE0 && p[i + 1] < 0xA0) || (c == 0xED && p[i + 1] > 0x9F)) return false;
    if ((c == 0xF0 && p[i + 1] < 0x90) || (c == 0xF4 && p[i + 1] > 0x8F)) return false;
    i += n;
  }
  return true;
}

}  // namespace check

#define CHECK(x) check::that(static_cast<bool>(x), #x, "", __FILE__, __LINE__)
#define CHECK_EQ(a, b) check::equal((a), (b), #a " == " #b, __FILE__, __LINE__)
