// The norm before a block, as the model's spec says.
#pragma once

#include "base/matrix.h"
#include "base/thread_pool.h"
#include "model/weights.h"

namespace moiety::model {

Matrix<float> norm(ThreadPool& threads, MatrixView<const float> x_TD, const NormWeights& weights, float eps);

}  // namespace moiety::model
