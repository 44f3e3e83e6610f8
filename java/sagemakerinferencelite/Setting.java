// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

/** The system properties {@code sagemaker_inference_lite.*}, by which the parent configures us. */
final class Setting {

    private Setting() {}

    static String optional(String name, String fallback) {
        return System.getProperty("sagemaker_inference_lite." + name, fallback);
    }

    /** Throws an exception that names the property, if it is not set. */
    static String required(String name) {
        String value = optional(name, null);
        if (value == null) {
            throw new IllegalArgumentException(
                    "system property sagemaker_inference_lite." + name + " is not set");
        }
        return value;
    }

    /** Throws an exception that names the property, if it is not a whole number. */
    static int number(String name, String fallback) {
        String value = optional(name, fallback);
        try {
            return Integer.parseInt(value);
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(
                    "system property sagemaker_inference_lite."
                            + name
                            + " is not a whole number: "
                            + value);
        }
    }
}
