#include "server/tls_files.h"

#include "base/error.h"

namespace moiety::server {

TlsFiles::TlsFiles(std::string certificate, std::string key, std::function<void(const std::string&)> warn)
    : certificate_(std::move(certificate)), key_(std::move(key)), warn_(std::move(warn)), seen_(versions()), context_(tls_context(certificate_, key_)) {}

boost::asio::ssl::context& TlsFiles::context() {
  const Versions now = versions();
  if (now != seen_) {
    seen_ = now;
    try {
      context_ = tls_context(certificate_, key_);
    } catch (const Error& error) {  // perhaps only one of the two is new, and the other comes at once
      warn_(fmt::format("the old certificate stays: {}", error.what()));
    }
  }
  return *context_;
}

}  // namespace moiety::server
