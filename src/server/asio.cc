// The bodies of Asio and Beast, compiled once: the other files include their declarations (see build.cmake).
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
