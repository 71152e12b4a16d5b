// Our own minimax fits of functions, which the targets evaluate in f32 where a device has no function of
// its own or an inaccurate one.

/**
 * erf on floats up to 3.92, beyond which it is 1: x P(x²) / Q(x²), our own minimax fit. The
 * relative error is below 4e-7. One fit, since vectors compute both branches of a select.
 */
export const erfFit = {
  most: 3.92,
  over: [
    1.1283791461512773,
    0.19040659147357658,
    0.05274873213171836,
    0.0037656204347149428,
    0.000284882502035037,
    2.050082309704361e-6,
  ],
  under: [
    1,
    0.5020761890859665,
    0.11410915660821033,
    0.014969223521104845,
    0.0011625358047804783,
    3.809165186109519e-5,
  ],
} as const;

/** e^(a²) erfc(a) / t up to 10.1, where t = 1 / (1 + a / 2), by t - 1/2; within 3e-8. */
export const erfcFit = [
  0.5107913613319397,
  0.687160849571228,
  0.5589427947998047,
  0.14574722945690155,
  -0.1720186173915863,
  -0.103016197681427,
  0.09736117720603943,
  0.04676390066742897,
  -0.06779003888368607,
  0.011623593978583813,
] as const;

/** sin and cos up to pi / 4: x + x³ S(x²) and 1 - x² / 2 + x⁴ C(x²), our own minimax fits. */
export const waveFit = {
  sin: [-0.16666655242443085, 0.008332186378538609, -0.0001951769954757765],
  cos: [0.04166664555668831, -0.0013887309469282627, 2.4432321879430674e-5],
} as const;
