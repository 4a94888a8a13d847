// A certificate and its key, read again when they change: a renewal needs no restart.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "server/file_version.h"
#include "server/stream.h"

namespace moiety::server {

class TlsFiles {
 public:
  // `warn` is told, once a change, of new files that can't be used: the old ones stay in force. Throws as tls_context does.
  TlsFiles(std::string certificate, std::string key, std::function<void(const std::string&)> warn);

  // For the next connection; those that are open keep theirs. Good until the next call.
  boost::asio::ssl::context& context();

 private:
  using Versions = std::array<std::optional<FileVersion>, 2>;
  Versions versions() const { return {file_version(certificate_), file_version(key_)}; }

  std::string certificate_, key_;
  std::function<void(const std::string&)> warn_;
  Versions seen_;
  std::shared_ptr<boost::asio::ssl::context> context_;
};

}  // namespace moiety::server
