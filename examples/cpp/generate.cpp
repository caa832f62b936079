// c++ -std=c++17 examples/cpp/generate.cpp $(pkg-config --cflags --libs tern) && ./a.out -m MODEL -n 40 "Once upon a time"
// Continues a text: load, tokenize, eval, sample, print.
#include <tern.hpp>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <iostream>

// Parses all of `text`, or ends the program: a wrong command line is status 2.
template <class T>
T number(const char *text) {
  T value{};
  const char *end = text + std::strlen(text);
  const auto parsed = std::from_chars(text, end, value);
  if (parsed.ec == std::errc() && parsed.ptr == end) return value;
  std::cerr << "error: not a number: " << text << '\n';
  std::exit(2);
}

int main(int argc, char **argv) {
  const char *path = nullptr, *prompt = nullptr;
  std::uint32_t n = 64;
  float temp = 0;
  std::uint64_t seed = 0;
  bool good = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "-m" && i + 1 < argc) path = argv[++i];
    else if (flag == "-n" && i + 1 < argc) n = number<std::uint32_t>(argv[++i]);
    else if (flag == "--temp" && i + 1 < argc) temp = number<float>(argv[++i]);
    else if (flag == "--seed" && i + 1 < argc) seed = number<std::uint64_t>(argv[++i]);
    else if (prompt == nullptr && flag.substr(0, 1) != "-") prompt = argv[i];
    else good = false;
  }
  if (!good || path == nullptr || prompt == nullptr) {
    std::cerr << "usage: generate -m MODEL [-n N] [--temp T] [--seed S] PROMPT\n";
    return 2;
  }
  try {
    const auto model = tern::model::from_file(path);
    tern::context context(model);
    tern::sampler sampler(seed);
    if (temp != 0) sampler.top_k(40).temp(temp);
    tern::detokenizer detokenizer(model);

    auto tokens = model.tokenize(prompt, TERN_TOK_ADD_SPECIAL);
    for (std::uint32_t i = 0; i < n; ++i) {
      context.eval(tokens);
      const tern::token next = sampler.sample(context);
      if (model.is_eog(next)) break;
      std::cout << detokenizer.push(next) << std::flush;
      tokens.assign(1, next);
    }
    std::cout << detokenizer.finish() << '\n';
  } catch (const std::exception &e) {
    std::cerr << "error: " << e.what() << '\n';
    return 1;
  }
}
