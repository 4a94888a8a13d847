// The web page's files, as they lie in the binary (page.cmake, web/build.sh).
#pragma once

#include <string_view>

namespace moiety::server {

std::string_view page_html();
std::string_view page_html_gz();  // the same, compressed; empty if there is none
std::string_view page_csp();      // the Content-Security-Policy that it needs

}  // namespace moiety::server
