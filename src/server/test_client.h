// A client for tests that sends exactly the bytes it is told to. Waits are bounded by a socket timeout that fails the test.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace moiety::server {

class TestClient {
 public:
  explicit TestClient(uint16_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connect(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  explicit TestClient(const std::string& unix_path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    unix_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    connect(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  TestClient(TestClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), unread_(std::move(other.unread_)) {}
  ~TestClient() { leave(); }

  // False if the server has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  void half_close() { ::shutdown(fd_, SHUT_WR); }
  void leave() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  // With a reset instead of an ordinary end.
  void vanish() {
    const linger hard{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    leave();
  }

  // Up to and with `mark`; less if the connection ended before.
  std::string read_to(std::string_view mark) {
    size_t at;
    while ((at = unread_.find(mark)) == unread_.npos && receive()) {
    }
    return cut(at == unread_.npos ? unread_.size() : at + mark.size());
  }
  std::string read_to_end() {
    while (receive()) {
    }
    return cut(unread_.size());
  }

  struct Answer {
    int status = 0;  // 0: the connection ended instead
    std::string head, body;
    bool has(std::string_view text) const { return head.find(text) != head.npos; }
  };
  // One with a Content-Length, or chunked.
  Answer read_answer(bool has_body = true) {
    Answer answer{.head = read_to("\r\n\r\n")};
    if (answer.head.size() < 12) return answer;
    answer.status = std::stoi(answer.head.substr(9, 3));
    if (!has_body) return answer;
    if (answer.has("Transfer-Encoding: chunked")) {
      for (;;) {
        const std::string line = read_to("\r\n");
        const size_t size = line.empty() ? 0 : std::stoul(line, nullptr, 16);
        answer.body += read(size);
        read(2);
        if (size == 0) return answer;
      }
    }
    const size_t at = answer.head.find("Content-Length: ");
    if (at != answer.head.npos) answer.body = read(std::stoul(answer.head.substr(at + 16)));
    return answer;
  }
  Answer ask(std::string_view bytes) {
    send(bytes);
    return read_answer();
  }
  Answer get(const std::string& path, const std::string& headers = "") {
    return ask("GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
  }
  Answer post(const std::string& path, const std::string& body, const std::string& headers = "") {
    return ask("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
  }

 private:
  void connect(const sockaddr* address, socklen_t size) {
    const timeval patience{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    EXPECT_EQ(::connect(fd_, address, size), 0) << strerror(errno);
  }
  bool receive() {
    char buffer[4096];
    const ssize_t count = ::recv(fd_, buffer, sizeof(buffer), 0);
    EXPECT_FALSE(count < 0 && errno == EAGAIN) << "the server said nothing for a minute";
    if (count > 0) unread_.append(buffer, static_cast<size_t>(count));
    return count > 0;
  }
  std::string read(size_t count) {
    while (unread_.size() < count && receive()) {
    }
    return cut(std::min(count, unread_.size()));
  }
  std::string cut(size_t count) {
    std::string text = unread_.substr(0, count);
    unread_.erase(0, count);
    return text;
  }

  int fd_;
  std::string unread_;
};

}  // namespace moiety::server
