#include "server/page_bytes.h"

// The assembler copies a file of MOIETY_PAGE_DIR between two symbols.
#define MOIETY_EMBED(symbol, file)                                                                                 \
  asm(".pushsection .rodata\n.balign 1\n.local " #symbol "_begin\n.local " #symbol "_end\n"                        \
      #symbol "_begin:\n.incbin \"" MOIETY_PAGE_DIR "/" file "\"\n" #symbol "_end:\n.byte 0\n.popsection\n");      \
  extern "C" __attribute__((visibility("hidden"))) const char symbol##_begin[], symbol##_end[]

MOIETY_EMBED(moiety_page_html, "page.html");
MOIETY_EMBED(moiety_page_html_gz, "page.html.gz");
MOIETY_EMBED(moiety_page_csp, "page.csp");

namespace moiety::server {

std::string_view page_html() { return {moiety_page_html_begin, moiety_page_html_end}; }
std::string_view page_html_gz() { return {moiety_page_html_gz_begin, moiety_page_html_gz_end}; }
std::string_view page_csp() { return {moiety_page_csp_begin, moiety_page_csp_end}; }

}  // namespace moiety::server
