#pragma once
// One table of routes for the whole server. A pattern is segments: "api", "{name}" (one segment),
// "{type:models|datasets|spaces}" (one of these), "{name}.git" (one segment with that end),
// "{path...}" (the rest, at least one segment, only last). The first match in table order wins.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/http/http.h"

namespace pretrained::server {

// What the pattern's braces matched, decoded. `rest` holds the segments of "{path...}".
struct Captures {
  std::map<std::string, std::string> named;
  std::vector<std::string> rest;
  const std::string& at(const std::string& name) const { return named.at(name); }
};

template <class Handler>
struct Route {
  std::string method;  // HEAD is matched by GET routes too
  std::string pattern;
  Handler handler;
};

class Pattern {
 public:
  explicit Pattern(const std::string& text);
  bool match(const std::vector<std::string>& segments, Captures& captures) const;

 private:
  struct Segment {
    std::string name, literal, suffix;  // literal: compared; else named
    std::vector<std::string> choices;
    bool rest = false;
  };
  std::vector<Segment> segments_;
};

template <class Handler>
class Router {
 public:
  explicit Router(std::vector<Route<Handler>> routes) : routes_(std::move(routes)) {
    for (auto& route : routes_) patterns_.emplace_back(route.pattern);
  }
  struct Match {
    const Route<Handler>* route = nullptr;  // none: 404, or 405 where `allowed` has methods
    Captures captures;
    std::string allowed;  // "GET, POST": of the patterns that fit with another method
  };
  Match find(const std::string& method, const std::vector<std::string>& segments) const {
    Match match;
    for (size_t i = 0; i < routes_.size(); ++i) {
      Captures captures;
      if (!patterns_[i].match(segments, captures)) continue;
      if (routes_[i].method == method || (method == "HEAD" && routes_[i].method == "GET"))
        return {&routes_[i], std::move(captures), {}};
      match.allowed += (match.allowed.empty() ? "" : ", ") + routes_[i].method;
    }
    return match;
  }

 private:
  std::vector<Route<Handler>> routes_;
  std::vector<Pattern> patterns_;
};

}  // namespace pretrained::server
