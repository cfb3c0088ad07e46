#pragma once
// One request over one curl handle: sent once, answered or not. Retries and redirects are
// http.cpp's.

#include <curl/curl.h>

#include <string>

#include "pretrained/hub/http.h"
#include "pretrained/hub/url.h"

namespace pretrained::hub {

// What is sent where; redirects change it.
struct Leg {
  Url url;
  std::string method;
  Headers headers;
  std::string authorization;  // the token for this address, or ""
  bool body = false;          // whether the request's body goes too
};

struct Outcome {
  HttpResponse response;
  std::string failure;     // why there is no answer; "" where there is one
  bool final = false;      // a failure that a repetition does not cure: certificates
  bool delivered = false;  // request.write has had bytes
  bool sent = false;       // the server may have acted on it
};

// What the request's callbacks throw is thrown on.
Outcome attempt(CURL* curl, const HttpOptions& options, const HttpRequest& request, const Leg& leg);

}  // namespace pretrained::hub
