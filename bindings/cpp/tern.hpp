/* tern for C++17: a ternary language model inside any native program.
 *
 *   #include <tern.hpp>
 *   int main() {
 *     auto model = tern::model::from_file("model.gguf");
 *     auto chat  = tern::session(model, "You are a pirate.");
 *     for (std::string_view piece : chat.ask("Is water wet?"))
 *       std::cout << piece << std::flush;
 *   }
 *
 * Header only, over the C interface of <tern.h>; link tern::tern (CMake) or `pkg-config tern`.
 *
 * Errors     A failed call throws tern::error. With TERN_NO_EXCEPTIONS defined, or exceptions switched off in the
 *            compiler, it returns a tern::result<T> instead: answer<T> below stands for T or result<T>, and since
 *            constructors cannot answer, `session::create` and its kin take their place. Both kinds may meet in one program.
 * Ownership  Every class owns one handle, is move-only, and may be destroyed in any order and on any thread. A moved-from
 *            object is empty: calls on it fail with status::invalid_argument, nothing more. model and grammar are shared
 *            by `share()`, which costs a counter.
 * Threads    As in C: const methods from any number of threads, others one at a time; misuse is status::busy.
 * Callbacks  Any callable; it is not copied and not kept unless the call says so. An exception it throws stops the call
 *            and is thrown again from it.
 * Text       UTF-8 in std::string_view. Paths are UTF-8 on Windows too.
 */
#ifndef TERN_HPP
#define TERN_HPP

#include <tern/error.hpp>
#include <tern/handle.hpp>

#include <tern/control.hpp>

#include <tern/model.hpp>

#include <tern/tokenizer.hpp>

#include <tern/context.hpp>

#include <tern/sampler.hpp>

#include <tern/session.hpp>

#endif
