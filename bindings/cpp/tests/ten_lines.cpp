#include <iostream>

#include <tern.hpp>
int main(int, char **argv) {
  auto model = tern::model::from_file(argv[1]);
  auto chat  = tern::session(model, "You are a pirate.");
  for (std::string_view piece : chat.ask("Is water wet?"))
    std::cout << piece << std::flush;
}
