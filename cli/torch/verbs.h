#pragma once
// What libpretrained_verbs.so is made of.

#include "cli/progress.h"
#include "cli/review.h"
#include "cli/terminal.h"
#include "cli/torch_verbs.h"

namespace pretrained::cli {

void predict(const Predict& arguments);
void inspect(const Inspect& arguments);
void create(const std::string& where, const Common& common);
CodeReview review(const ReviewRequest& request);

}  // namespace pretrained::cli
