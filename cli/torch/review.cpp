#include "pretrained/model/auto.h"
#include "verbs.h"

namespace pretrained::cli {

CodeReview review(const ReviewRequest& request) {
  return review_code(request.model, {.subfolder = request.subfolder, .code = request.code});
}

}  // namespace pretrained::cli
