// moiety: the table of commands, and the one place where errors end.
#include <malloc.h>

#include <fmt/core.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "base/error.h"
#include "base/say.h"
#include "cli/command.h"

namespace {

using namespace moiety;

struct Command {
  const char* name;
  int (*run)(int argc, char** argv);
  const char* summary;
};

constexpr Command kCommands[] = {
    {"train", cli::train, "train a model from text"},
    {"report", cli::report, "compare training runs"},
    {"finetune", cli::finetune, "train a model further, or one made of dense ones"},
    {"generate", cli::generate, "continue a text"},
    {"chat", cli::chat, "a conversation in the terminal"},
    {"serve", cli::serve, "answer programs and browsers over HTTP"},
    {"eval", cli::eval, "bits per byte and experts used, by text"},
    {"bench", cli::bench, "speed, against the limits of this machine"},
    {"convert", cli::convert, "a checkpoint, Hugging Face folder or GGUF file into another"},
    {"importance", cli::importance, "which columns of the matrices matter on a text"},
    {"quantize", cli::quantize, "a model in fewer bits"},
    {"pack", cli::pack, "a model whose experts lie on the disk as they are computed with"},
    {"trace", cli::trace, "which experts tokens visit: record it, read off what it says, replay caches over it"},
    {"inspect", cli::inspect, "what is in this file"},
    {"template", cli::template_, "a conversation to the prompt of a chat template"},
    {"tokenize", cli::tokenize, "text to token ids"},
    {"detokenize", cli::detokenize, "token ids to text"},
    {"logits", cli::logits, "a model's logits and routes as files"},
    {"corpus", cli::corpus, "folders of text to training and validation text"},
};

void print_help() {
  fmt::print("moiety: train, compress and serve mixture-of-experts language models\n\n");
  for (const Command& command : kCommands) fmt::print("  moiety {:<11} {}\n", command.name, command.summary);
  fmt::print("\nEach command explains itself with --help. Exit status: 0 done, 1 failed, 2 wrong use.\n");
}

int run(int argc, char** argv) {
  if (argc < 2) {
    print_help();
    return 2;
  }
  const char* name = argv[1];
  if (std::strcmp(name, "--help") == 0 || std::strcmp(name, "-h") == 0 || std::strcmp(name, "help") == 0) {
    print_help();
    return 0;
  }
  if (std::strcmp(name, "--version") == 0) {
    fmt::print("moiety {}\n", MOIETY_VERSION);
    return 0;
  }
  for (const Command& command : kCommands) {
    if (std::strcmp(command.name, name) == 0) return command.run(argc - 1, argv + 1);
  }
  fail(ErrorKind::Usage, "there is no command \"{}\"; moiety --help lists them", name);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);
#if defined(__GLIBC__)
  // The matrices of one step are the next one's: giving them back to the system in between costs a page fault a page.
  mallopt(M_MMAP_THRESHOLD, 256 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
  try {
    const int status = run(argc, argv);
    if (std::fflush(stdout) != 0) {
      say("moiety: cannot write the output: {}\n", std::strerror(errno));
      return 1;
    }
    return status;
  } catch (const Error& error) {
    say("moiety: {}\n", error.what());
    return error.kind() == ErrorKind::Usage ? 2 : 1;
  } catch (const std::bad_alloc&) {
    say("moiety: not enough memory\n");
  } catch (const std::exception& error) {
    say("moiety: {}\n", error.what());
  }
  return 1;
}
