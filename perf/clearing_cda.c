/* Continuous double auction in scalar C: the yardstick of perf/clearing.py.
 *
 * Same rules, arrays and data structure as peerwatt.market.kernels.clear_cda: one FIFO per side and
 * price level, kept as linked lists in arrays, and a bit mask of the non-empty levels per side.
 */
#include <stdint.h>

enum { LEVELS = 64 };

static void clear_cda(int64_t n, const int64_t *restrict order, const int64_t *restrict level,
                      const int64_t *restrict ticks, const int64_t *restrict arrival,
                      int64_t *restrict traded, int64_t *restrict payment, int64_t *restrict queue,
                      int64_t *restrict head, int64_t *restrict tail, int64_t *restrict moments)
{
    uint64_t bids = 0, offers = 0;
    int64_t volume = 0, value = 0, square = 0;

    for (int64_t k = 0; k < n; k++) {
        const int64_t me = arrival[k];
        const int64_t quantity = order[me];
        if (quantity == 0) {
            traded[me] = 0;
            payment[me] = 0;
            continue;
        }
        const int64_t limit = level[me];
        if (quantity < 0) {
            int64_t left = -quantity, paid = 0;
            while (left > 0 && offers) {
                const int64_t best = __builtin_ctzll(offers);
                if (best > limit)
                    break;
                const int64_t other = head[LEVELS + best];
                const int64_t rest = order[other] - traded[other];
                const int64_t price = ticks[best];
                const int64_t q = left < rest ? left : rest;
                const int64_t money = q * price;
                left -= q;
                traded[other] += q;
                payment[other] += money;
                paid += money;
                volume += q;
                value += money;
                square += money * price;
                if (q == rest) {
                    head[LEVELS + best] = queue[other];
                    if (queue[other] < 0)
                        offers ^= UINT64_C(1) << best;
                }
            }
            traded[me] = quantity + left;
            payment[me] = -paid;
            if (left > 0) {
                const uint64_t bit = UINT64_C(1) << limit;
                queue[me] = -1;
                if (bids & bit)
                    queue[tail[limit]] = me;
                else
                    head[limit] = me;
                bids |= bit;
                tail[limit] = me;
            }
        } else {
            int64_t left = quantity, received = 0;
            while (left > 0 && bids) {
                const int64_t best = 63 - __builtin_clzll(bids);
                if (best < limit)
                    break;
                const int64_t other = head[best];
                const int64_t rest = traded[other] - order[other];
                const int64_t price = ticks[best];
                const int64_t q = left < rest ? left : rest;
                const int64_t money = q * price;
                left -= q;
                traded[other] -= q;
                payment[other] -= money;
                received += money;
                volume += q;
                value += money;
                square += money * price;
                if (q == rest) {
                    head[best] = queue[other];
                    if (queue[other] < 0)
                        bids ^= UINT64_C(1) << best;
                }
            }
            traded[me] = quantity - left;
            payment[me] = received;
            if (left > 0) {
                const uint64_t bit = UINT64_C(1) << limit;
                queue[me] = -1;
                if (offers & bit)
                    queue[tail[LEVELS + limit]] = me;
                else
                    head[LEVELS + limit] = me;
                offers |= bit;
                tail[LEVELS + limit] = me;
            }
        }
    }
    moments[0] = volume;
    moments[1] = value;
    moments[2] = square;
}

/* Clear `communities` books of `n` households; the arrays are flat and lie one after another.
 * `queue` [n], `head` and `tail` [128] are scratch. */
void clear_batch(int64_t communities, int64_t n, int64_t levels, const int64_t *order,
                 const int64_t *level, const int64_t *ticks, const int64_t *arrival,
                 int64_t *traded, int64_t *payment, int64_t *moments, int64_t *queue,
                 int64_t *head, int64_t *tail)
{
    for (int64_t b = 0; b < communities; b++)
        clear_cda(n, order + b * n, level + b * n, ticks + b * levels, arrival + b * n,
                  traded + b * n, payment + b * n, queue, head, tail, moments + 3 * b);
}
