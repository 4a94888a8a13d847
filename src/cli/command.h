// The commands of moiety: one function and one file each; main.cc has the table.
#pragma once

namespace moiety::cli {

// Each takes the arguments that follow its name (argv[0] is the name) and returns the exit status; what goes wrong is
// thrown as Error.
int bench(int argc, char** argv);
int chat(int argc, char** argv);
int convert(int argc, char** argv);
int corpus(int argc, char** argv);
int detokenize(int argc, char** argv);
int eval(int argc, char** argv);
int finetune(int argc, char** argv);
int generate(int argc, char** argv);
int importance(int argc, char** argv);
int inspect(int argc, char** argv);
int logits(int argc, char** argv);
int pack(int argc, char** argv);
int quantize(int argc, char** argv);
int report(int argc, char** argv);
int serve(int argc, char** argv);
int template_(int argc, char** argv);
int tokenize(int argc, char** argv);
int trace(int argc, char** argv);
int train(int argc, char** argv);

}  // namespace moiety::cli
